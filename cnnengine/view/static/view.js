"use strict";
(() => {
// ------------------------------------------------------------------ data
const $ = id => document.getElementById(id), D = JSON.parse($("data").textContent), LS = D.layers;
const el = (tag, cls, ...kids) => { const e = document.createElement(tag); if (cls) e.className = cls; e.append(...kids.filter(k => k !== null && k !== undefined)); return e; };
const prod = a => a.reduce((p, n) => p * n, 1), clip = (v, a, b) => Math.min(Math.max(v, a), b);

// Inflate (RFC 1951) of what zlib made: pages are read where no DecompressionStream is, and at once.
const LEN = [], DIST = [];
{ let b = 3; for (let i = 0; i < 28; i++) { const x = i < 8 ? 0 : (i >> 2) - 1; LEN.push([b, x]); b += 1 << x; } LEN.push([258, 0]); b = 1;
  for (let i = 0; i < 30; i++) { const x = i < 4 ? 0 : (i >> 1) - 1; DIST.push([b, x]); b += 1 << x; } }
function tree(lengths) {
  const count = new Uint16Array(16), symbols = new Uint16Array(lengths.length), at = new Uint16Array(16);
  for (const n of lengths) count[n]++;
  count[0] = 0;
  for (let i = 1; i < 16; i++) at[i] = at[i - 1] + count[i - 1];
  lengths.forEach((n, i) => { if (n) symbols[at[n]++] = i; });
  return { count, symbols };
}
function inflate(src) {
  let p = 2, hold = 0, have = 0, out = new Uint8Array(Math.max(src.length * 4, 1024)), n = 0;
  const bits = k => { while (have < k) { hold |= src[p++] << have; have += 8; } const v = hold & ((1 << k) - 1); hold >>>= k; have -= k; return v; };
  const room = k => { if (n + k > out.length) { const o = new Uint8Array(Math.max(out.length * 2, n + k)); o.set(out); out = o; } };
  const sym = t => { let code = 0, first = 0, index = 0; for (let k = 1; k < 16; k++) { code |= bits(1); const c = t.count[k]; if (code - c < first) return t.symbols[index + code - first]; index += c; first = (first + c) << 1; code <<= 1; } throw Error("broken data"); };
  let fixed;
  for (let last = 0; !last;) {
    last = bits(1);
    const type = bits(2);
    if (type === 0) { hold = have = 0; const k = src[p] | src[p + 1] << 8; p += 4; room(k); out.set(src.subarray(p, p + k), n); n += k; p += k; continue; }
    let lit, dist;
    if (type === 1) {
      if (!fixed) fixed = [tree([...Array(288)].map((_, i) => i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8)), tree(Array(30).fill(5))];
      [lit, dist] = fixed;
    } else {
      const a = bits(5) + 257, b = bits(5) + 1, c = bits(4) + 4, l = Array(19).fill(0), order = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
      for (let i = 0; i < c; i++) l[order[i]] = bits(3);
      const t = tree(l), all = [];
      while (all.length < a + b) {
        const s = sym(t);
        if (s < 16) all.push(s);
        else { const v = s === 16 ? all[all.length - 1] : 0; for (let k = s === 16 ? 3 + bits(2) : s === 17 ? 3 + bits(3) : 11 + bits(7); k--;) all.push(v); }
      }
      lit = tree(all.slice(0, a)); dist = tree(all.slice(a));
    }
    for (;;) {
      const s = sym(lit);
      if (s === 256) break;
      if (s < 256) { room(1); out[n++] = s; continue; }
      const k = LEN[s - 257][0] + bits(LEN[s - 257][1]), d = sym(dist), back = DIST[d][0] + bits(DIST[d][1]);
      room(k);
      for (let i = 0; i < k; i++, n++) out[n] = out[n - back];
    }
  }
  return out.subarray(0, n);
}
const unbase = t => { const s = atob(t), a = new Uint8Array(s.length); for (let i = 0; i < s.length; i++) a[i] = s.charCodeAt(i); return a; };
const opened = new Map();
function chunk(i) { if (!opened.has(i)) opened.set(i, inflate(unbase($("c" + i).textContent.trim()))); return opened.get(i); }
function numbers(bytes, count) { // bytes sorted by their place in a number
  const size = bytes.length / count, raw = new Uint8Array(bytes.length);
  for (let b = 0; b < size; b++) for (let i = 0, o = b * count; i < count; i++) raw[i * size + b] = bytes[o + i];
  return size === 4 ? new Float32Array(raw.buffer) : new Float64Array(raw.buffer);
}

// ------------------------------------------------------------------ tensors
const ravel = (idx, shape) => { let f = 0; for (let i = 0; i < shape.length; i++) f = f * shape[i] + idx[i]; return f; };
const unravel = (f, shape) => { const r = Array(shape.length); for (let i = shape.length; i--;) { r[i] = f % shape[i]; f = Math.floor(f / shape[i]); } return r; };
class Missing extends Error {}
const T = D.tensors.map(([name, shape, c]) => ({ name, shape, c, boxes: [], data: null }));
const whole = t => T[t].c >= 0 ? T[t].data || (T[t].data = numbers(chunk(T[t].c), prod(T[t].shape))) : null;
function value(t, idx) {
  const a = whole(t);
  if (a) return a[ravel(idx, T[t].shape)];
  for (const b of T[t].boxes) {
    let f = 0, ok = true;
    for (let i = 0; i < idx.length; i++) { const o = idx[i] - b.lo[i]; if (o < 0 || o >= b.n[i]) { ok = false; break; } f = f * b.n[i] + o; }
    if (ok) return b.data[f];
  }
  throw new Missing(T[t].name);
}
const carried = new Set();
function carry(L) { // the elements of a layer that the page was made with, and all that they are made of
  if (L.pc === undefined || carried.has(L)) return;
  carried.add(L);
  const all = numbers(chunk(L.pc), L.boxes.reduce((s, b) => s + prod(b[2]), 0));
  let at = 0;
  for (const [t, lo, n] of L.boxes) { const k = prod(n); T[t].boxes.push({ lo, n, data: all.subarray(at, at + k) }); at += k; }
}
const shapeOf = L => T[L.t].shape;
const whollyCarried = L => !!(L.rule && T[L.t].c >= 0 && L.rule.r.every(t => t < 0 || T[t].c >= 0));
const layerOf = t => LS.findIndex(L => L.t === t);

// ------------------------------------------------------------------ how a tensor is seen
const view = L => { const [maps, y, x] = L.view, s = shapeOf(L); return { maps, y, x, h: y < 0 ? 1 : s[y], w: x < 0 ? 1 : s[x], count: prod(maps.map(a => s[a])) }; };
function place(L, m, y, x) {
  const v = view(L), s = shapeOf(L), idx = Array(s.length).fill(0);
  for (let i = v.maps.length; i--;) { idx[v.maps[i]] = m % s[v.maps[i]]; m = Math.floor(m / s[v.maps[i]]); }
  if (v.y >= 0) idx[v.y] = y; if (v.x >= 0) idx[v.x] = x;
  return idx;
}
function spot(L, idx) { const v = view(L), s = shapeOf(L); let m = 0; for (const a of v.maps) m = m * s[a] + idx[a]; return { m, y: v.y < 0 ? 0 : idx[v.y], x: v.x < 0 ? 0 : idx[v.x] }; }
function mapName(L, m) { const v = view(L), s = shapeOf(L); const i = place(L, m, 0, 0); return v.maps.length ? (v.maps.length > 1 ? v.maps.map(a => i[a]).join("·") : "" + m) : "all"; }
function order(L) {
  if (L._o) return L._o;
  const v = view(L);
  if (!L.order) return L._o = { shown: v.count === 1 ? [0] : [], strength: null };
  const a = numbers(chunk(L.order[0]), L.order[1] + v.count);
  return L._o = { shown: [...a.subarray(0, L.order[1])], strength: a.subarray(L.order[1]) };
}
function codes(L, m) { // a map in small: 8 bits
  if (!L.maps) return null;
  const k = order(L).shown.indexOf(m), [c, h, w] = L.maps;
  return k < 0 ? null : { h, w, data: chunk(c).subarray(k * h * w, (k + 1) * h * w) };
}
function exact(L, m) {
  if (L._m && L._m.has(m)) return L._m.get(m);
  const v = view(L), a = L.view ? whole(L.t) : null;
  if (!a) return null;
  const out = new Float32Array(v.h * v.w), s = shapeOf(L), base = place(L, m, 0, 0), st = k => k < 0 ? 0 : prod(s.slice(k + 1));
  const o = ravel(base, s), sy = st(v.y), sx = st(v.x);
  for (let y = 0; y < v.h; y++) for (let x = 0; x < v.w; x++) out[y * v.w + x] = a[o + y * sy + x * sx];
  return out;
}

// ------------------------------------------------------------------ colour
let dark = matchMedia("(prefers-color-scheme: dark)").matches;
const RAMPS = {
  light: { plus: ["#f7f5f0", "#b9d0e6", "#5b93c9", "#1f5fa8", "#0c2c57"], minus: ["#f7f5f0", "#f0cdb4", "#dc9065", "#b3481c", "#5e210a"] },
  dark: { plus: ["#14181d", "#1e4468", "#3b80bd", "#7db8f5", "#eaf5ff"], minus: ["#14181d", "#5c3018", "#a8542a", "#f2976a", "#ffe9dd"] },
};
const rgb = h => [1, 3, 5].map(i => parseInt(h.slice(i, i + 2), 16));
const ramps = {};
for (const [mode, two] of Object.entries(RAMPS)) for (const [side, stops] of Object.entries(two)) {
  const c = stops.map(rgb), lut = new Uint8Array(256 * 3);
  for (let i = 0; i < 256; i++) { const f = i / 255 * 4, k = Math.min(f | 0, 3); for (let j = 0; j < 3; j++) lut[i * 3 + j] = Math.round(c[k][j] + (c[k + 1][j] - c[k][j]) * (f - k)); }
  ramps[mode + side] = lut;
}
function paint(v, most) { const lut = ramps[(dark ? "dark" : "light") + (v < 0 ? "minus" : "plus")], i = (Math.min(Math.abs(v) / (most || 1), 1) * 255 | 0) * 3; return [lut[i], lut[i + 1], lut[i + 2]]; }
const css = (v, most) => `rgb(${paint(v, most)})`;
function inkOn(v, most) { const [r, g, b] = paint(v, most); return r * .3 + g * .59 + b * .11 > 140 ? "#16181c" : "#fff"; }
const most = L => Math.max(Math.abs(L.scale[0]), Math.abs(L.scale[1])) || 1;
function pixels(canvas, h, w, get, top) {
  canvas.width = w; canvas.height = h;
  const c = canvas.getContext("2d"), im = c.createImageData(w, h);
  for (let i = 0; i < h * w; i++) { const p = paint(get(i), top); im.data.set([p[0], p[1], p[2], 255], i * 4); }
  c.putImageData(im, 0, 0);
}
function bars(canvas, w, h, get, n, lo, hi) { // numbers in a row
  canvas.width = w; canvas.height = h;
  const c = canvas.getContext("2d"), span = (hi - lo) || 1, zero = h - (Math.max(0, lo) - lo) / span * h - (lo < 0 ? -lo / span * h : 0), top = Math.max(Math.abs(lo), Math.abs(hi)) || 1;
  for (let x = 0; x < w; x++) {
    const a = Math.floor(x * n / w), b = Math.max(a + 1, Math.floor((x + 1) * n / w));
    let v = 0; for (let i = a; i < b; i++) if (Math.abs(get(i)) > Math.abs(v)) v = get(i);
    const gap = w >= n * 4 && x >= Math.floor((a + 1) * w / n) - 1;
    if (gap) continue;
    const y = h - (v - lo) / span * h;
    c.fillStyle = css(v < 0 ? -Math.max(-v, top * .45) : Math.max(v, top * .45), top);
    c.fillRect(x, Math.min(y, zero), 1, Math.max(Math.abs(y - zero), v ? 1 : .5));
  }
}
const decode = L => { const [a, b] = L.scale; return c => a + c * (b - a) / 254; };
function drawSmall(canvas, L, m, strip) {
  const e = exact(L, m), v = view(L), k = e ? null : codes(L, m);
  if (!e && !k) { canvas.width = canvas.height = 1; return false; }
  const h = e ? v.h : k.h, w = e ? v.w : k.w, f = e ? i => e[i] : (d => i => d(k.data[i]))(decode(L));
  if (h === 1 && w > 1) bars(canvas, strip ? 260 : 256, strip ? 24 : 40, f, w, Math.min(0, L.scale[0]), Math.max(0, L.scale[1]));
  else pixels(canvas, h, w, f, most(L));
  return true;
}
const strongest = L => order(L).shown[0] || 0;

// ------------------------------------------------------------------ words
const num = v => v === null || v === undefined ? "–" : !isFinite(v) ? (v > 0 ? "∞" : v < 0 ? "−∞" : "NaN") : v === 0 ? "0" :
  (Math.abs(v) >= 1e6 || Math.abs(v) < 1e-4 ? v.toExponential(3) : +v.toPrecision(6) + "").replace("-", "−").replace("e−", "e−");
const short = v => !isFinite(v) ? num(v) : v === 0 ? "0" : (Math.abs(v) >= 1e4 || Math.abs(v) < 1e-3 ? v.toExponential(1) : (+v.toPrecision(3) + "").slice(0, 7)).replace("-", "−");
const cell = v => { const a = Math.abs(v); return !isFinite(v) || a >= 1e4 ? short(v) : a === 0 ? "0" : a < 5e-4 ? "≈0" : v.toFixed(a >= 100 ? 0 : a >= 10 ? 1 : a >= .1 ? 2 : 3).replace("0.", ".").replace("-", "−"); };
const time = s => s >= 1 ? s.toFixed(2) + " s" : s >= 1e-3 ? (s * 1e3).toFixed(s < .1 ? 2 : 0) + " ms" : (s * 1e6).toFixed(s < 1e-5 ? 1 : 0) + " µs";
const big = n => n >= 1e9 ? (n / 1e9).toFixed(2) + " G" : n >= 1e6 ? (n / 1e6).toFixed(1) + " M" : n >= 1e4 ? (n / 1e3).toFixed(0) + " k" : "" + n;
const by = a => a.join(" × ");
const sign = v => v < 0 ? "neg" : "pos";
const signed = v => el("span", sign(v), num(v));

// ------------------------------------------------------------------ arithmetic
// Each gives { sum, mag, show }: what the element must be, the magnitude that rounding is measured by, and what is drawn.
function taps(R, i, a, x) { // positions of a window along a spatial axis: [tap, position or -1 outside]
  const out = [];
  for (let k = 0; k < R.n[a]; k++) { const p = i * R.s[a] - R.b[a] + k * R.d[a]; out.push([k, p >= 0 && p < x[2 + a] ? p : -1, p]); }
  return out;
}
function windowOf(R, idx, x) { // all positions of a window, in order
  let all = [[[], [], true]];
  for (let a = 0; a < R.n.length; a++) { const t = taps(R, idx[2 + a], a, x), next = []; for (const [k, p, ok] of all) for (const [kk, pp] of t) next.push([[...k, kk], [...p, pp], ok && pp >= 0]); all = next; }
  return all;
}
function binOf(R, idx, x) { // the bin that an element is of
  let ch = idx[1], bins = R.l[0], at = idx.slice(2);
  if (R.flat) { let o = idx[1]; for (bins of R.l) { const n = x[1] * prod(bins); if (o < n) { ch = Math.floor(o / prod(bins)); at = unravel(o % prod(bins), bins); break; } o -= n; } }
  return { ch, bins, at, lo: at.map((i, a) => Math.floor(i * x[2 + a] / bins[a])), hi: at.map((i, a) => Math.ceil((i + 1) * x[2 + a] / bins[a])) };
}
const A = {
  conv(R, idx, L) {
    const x = T[R.r[0]].shape, w = T[R.r[1]].shape, per = w[1], g = Math.floor(idx[1] / (shapeOf(L)[1] / R.g)), win = windowOf(R, idx, x), channels = [];
    let sum = 0, mag = 0;
    for (let c = 0; c < per; c++) {
      const X = [], W = []; let s = 0;
      for (const [k, p, ok] of win) {
        const ww = value(R.r[1], [idx[1], c, ...k]), xx = ok ? value(R.r[0], [idx[0], g * per + c, ...p]) : null;
        X.push(xx); W.push(ww); if (ok) { s += xx * ww; mag += Math.abs(xx * ww); }
      }
      channels.push({ c: g * per + c, X, W, s }); sum += s;
    }
    const bias = R.r[2] >= 0 ? value(R.r[2], [idx[1]]) : 0;
    return { sum: sum + bias, mag: mag + Math.abs(bias), show: () => showConv(R, channels, bias, R.r[2] >= 0, win.length) };
  },
  convt(R, idx, L) {
    const x = T[R.r[0]].shape, w = T[R.r[1]].shape, g = Math.floor(idx[1] / w[1]), per = x[1] / R.g, terms = [];
    let pos = [[[], []]];
    for (let a = 0; a < R.n.length; a++) { const next = []; for (const [k, p] of pos) for (let kk = 0; kk < R.n[a]; kk++) { const q = idx[2 + a] + R.b[a] - kk * R.d[a]; if (q >= 0 && q % R.s[a] === 0 && q / R.s[a] < x[2 + a]) next.push([[...k, kk], [...p, q / R.s[a]]]); } pos = next; }
    let sum = 0, mag = 0;
    for (let c = 0; c < per; c++) for (const [k, p] of pos) { const a = value(R.r[0], [idx[0], g * per + c, ...p]), b = value(R.r[1], [g * per + c, idx[1] % w[1], ...k]); sum += a * b; mag += Math.abs(a * b); terms.push({ lab: `channel ${g * per + c} (${p.join(", ")})`, a, b, v: a * b }); }
    const bias = R.r[2] >= 0 ? value(R.r[2], [idx[1]]) : 0;
    return { sum: sum + bias, mag: mag + Math.abs(bias), show: () => showTerms(terms, bias, R.r[2] >= 0, "input pixels that reach this one") };
  },
  dense(R, idx) {
    const a = T[R.r[0]].shape, b = T[R.r[1]].shape, over = idx.slice(0, -2), [row, col] = idx.slice(-2), K = R.ta ? a[a.length - 2] : a[a.length - 1], terms = [];
    const lead = s => { const o = over.slice(over.length - (s.length - 2)); return s.slice(0, -2).map((n, i) => n === 1 ? 0 : o[i]); };
    const la = lead(a), lb = lead(b); let sum = 0, mag = 0;
    for (let k = 0; k < K; k++) { const u = value(R.r[0], [...la, ...(R.ta ? [k, row] : [row, k])]), v = value(R.r[1], [...lb, ...(R.tb ? [col, k] : [k, col])]); sum += u * v; mag += Math.abs(u * v); terms.push({ lab: "input " + k, a: u, b: v, v: u * v }); }
    let bias = 0;
    if (R.r[2] >= 0) { const c = T[R.r[2]].shape, o = idx.slice(idx.length - c.length); bias = R.beta * value(R.r[2], c.map((n, i) => n === 1 ? 0 : o[i])); }
    if (R.alpha !== 1) for (const t of terms) { t.b *= R.alpha; t.v *= R.alpha; }
    return { sum: R.alpha * sum + bias, mag: Math.abs(R.alpha) * mag + Math.abs(bias), show: () => showTerms(terms, bias, R.r[2] >= 0, "inputs") };
  },
  pool(R, idx) {
    const x = T[R.r[0]].shape, win = windowOf(R, idx, x), X = win.map(([, p, ok]) => ok ? value(R.r[0], [idx[0], idx[1], ...p]) : null), inside = X.filter(v => v !== null);
    let sum, divisor = inside.length, win1 = -1;
    if (R.f === "max") { sum = -Infinity; X.forEach((v, i) => { if (v !== null && v > sum) { sum = v; win1 = i; } }); }
    else if (R.f === "average") {
      if (R.c) { divisor = 1; R.n.forEach((n, a) => { let k = 0; for (const [, , p] of taps(R, idx[2 + a], a, x)) if (p < x[2 + a] + R.e[a]) k++; divisor *= k; }); }
      sum = inside.reduce((s, v) => s + v, 0) / divisor;
    } else sum = Math.pow(inside.reduce((s, v) => s + Math.pow(Math.abs(v), R.p), 0), 1 / R.p);
    const mag = inside.reduce((s, v) => s + Math.abs(v), 0) / (R.f === "average" ? divisor : 1);
    return { sum, mag: R.f === "max" ? Math.abs(sum) : mag, show: () => showWindow(R, X, R.n, win1, sum, divisor) };
  },
  reduce(R, idx) {
    const x = T[R.r[0]].shape, base = []; let j = 0;
    for (let a = 0; a < x.length; a++) if (R.a.includes(a)) { base.push(0); if (R.keep) j++; } else base.push(idx[j++]);
    const ext = R.a.map(a => x[a]), n = prod(ext), X = [];
    for (let f = 0; f < n; f++) { const u = unravel(f, ext), i = base.slice(); R.a.forEach((a, k) => i[a] = u[k]); X.push(value(R.r[0], i)); }
    return gathered(R, X, ext);
  },
  bins(R, idx) {
    const x = T[R.r[0]].shape, { ch, bins, at, lo, hi } = binOf(R, idx, x), ext = lo.map((v, a) => hi[a] - v), X = [];
    for (let f = 0; f < prod(ext); f++) X.push(value(R.r[0], [idx[0], ch, ...unravel(f, ext).map((v, a) => v + lo[a])]));
    const r = gathered({ f: R.f === "max" ? "max" : "mean" }, X, ext), show = r.show;
    r.show = () => [el("p", "note", `Bin (${at.join(", ")}) of ${by(bins)} over map ${ch}: rows and columns ${lo.map((v, a) => v + (hi[a] - 1 > v ? " to " + (hi[a] - 1) : "")).join(", ")} of ${by(x.slice(2))}.`), el("div", "side", binPicture(x.slice(2), bins, lo, hi), el("div", "", ...show()))];
    return r;
  },
  softmax(R, idx, L) {
    const x = T[R.r[0]].shape, ext = R.a.map(a => x[a]), X = [];
    for (let f = 0; f < prod(ext); f++) { const i = idx.slice(), u = unravel(f, ext); R.a.forEach((a, k) => i[a] = u[k]); X.push(value(R.r[0], i)); }
    const top = Math.max(...X), e = X.map(v => Math.exp(v - top)), total = e.reduce((a, b) => a + b, 0), me = ravel(R.a.map(a => idx[a]), ext);
    const sum = R.log ? X[me] - top - Math.log(total) : e[me] / total;
    return { sum, mag: R.log ? Math.abs(X[me]) + Math.abs(top) : sum, show: () => showSoftmax(X, e, total, me, R.log, top) };
  },
  batch(R, idx) {
    const x = value(R.r[0], idx), c = [idx[1]], [g, b, m, v] = R.r.slice(1).map(t => value(t, c)), f = g / Math.sqrt(v + R.eps);
    return { sum: (x - m) * f + b, mag: (Math.abs(x) + Math.abs(m)) * Math.abs(f) + Math.abs(b), show: () => steps([["before", x], ["− mean " + num(m), x - m], [`÷ √(${num(v)} + ${R.eps.toPrecision(2)})`, (x - m) / Math.sqrt(v + R.eps)], ["× factor " + num(g), (x - m) * f], ["+ offset " + num(b), (x - m) * f + b]]) };
  },
  norm(R, idx) {
    const x = T[R.r[0]].shape, lo = idx.slice(), n = x.map((_, a) => 1); for (const a of R.a) { lo[a] = 0; n[a] = x[a]; }
    if (R.groups) { const k = x[1] / R.groups; lo[1] = Math.floor(idx[1] / k) * k; n[1] = k; }
    const count = prod(n); let s = 0, q = 0;
    for (let f = 0; f < count; f++) s += value(R.r[0], unravel(f, n).map((v, a) => v + lo[a]));
    const mean = R.centred ? s / count : 0;
    for (let f = 0; f < count; f++) { const d = value(R.r[0], unravel(f, n).map((v, a) => v + lo[a])) - mean; q += d * d; }
    const v = q / count, root = R.after ? Math.sqrt(v) + R.eps : Math.sqrt(v + R.eps), me = value(R.r[0], idx);
    const at = t => { if (t < 0) return null; const sh = T[t].shape; return value(t, R.by === "last" ? idx.slice(idx.length - sh.length) : [R.by === "group" ? Math.floor(idx[1] / (x[1] / R.groups)) : idx[1]]); };
    const g = at(R.r[1]), b = at(R.r[2]), y = (me - mean) / root * (g === null ? 1 : g) + (b === null ? 0 : b);
    const list = [["before", me]]; if (R.centred) list.push([`− mean of ${count}: ${num(mean)}`, me - mean]); list.push([`÷ spread ${num(root)}`, (me - mean) / root]);
    if (g !== null) list.push(["× factor " + num(g), (me - mean) / root * g]); if (b !== null) list.push(["+ offset " + num(b), y]);
    return { sum: y, mag: (Math.abs(me) + Math.abs(mean)) / root * Math.abs(g === null ? 1 : g) + Math.abs(b || 0), show: () => steps(list) };
  },
  lrn(R, idx) {
    const x = T[R.r[0]].shape, a = Math.max(0, idx[1] - Math.floor((R.size - 1) / 2)), z = Math.min(x[1] - 1, idx[1] + Math.floor(R.size / 2)); let q = 0;
    for (let c = a; c <= z; c++) { const i = idx.slice(); i[1] = c; q += value(R.r[0], i) ** 2; }
    const me = value(R.r[0], idx), d = R.bias + R.alpha / R.size * q, y = me / Math.pow(d, R.beta);
    return { sum: y, mag: Math.abs(y), show: () => steps([["before", me], [`squares of channels ${a} to ${z}`, q], [`${num(R.bias)} + ${num(R.alpha)} ÷ ${R.size} × squares`, d], ["divided by that to the power of " + num(R.beta), y]]) };
  },
  curve(R, idx, L) {
    const i = unravel(ravel(idx, shapeOf(L)), T[R.r[0]].shape), x = value(R.r[0], i), f = F(R), y = f(x);
    return { sum: y, mag: Math.max(Math.abs(y), Math.abs(x) * (/Sig|Tanh|Soft|Erf|Sin|Cos|Exp|Log|Mish|Gelu|Swish/.test(R.f) ? 1 : 0)), show: () => showCurve(R, f, x, y, LS[layerOf(R.r[0])], L) };
  },
  together(R, idx) {
    const X = R.r.map((t, k) => value(t, unravel(ravel(idx.map((v, a) => R.al[k][a] === 1 ? 0 : v), R.al[k]), T[t].shape))), s = X.reduce((a, b) => a + b, 0);
    const y = { Add: s, Sum: s, Mean: s / X.length, Sub: X[0] - X[1], Mul: X[0] * X[1], Div: X[0] / X[1], Pow: Math.pow(X[0], X[1]), Min: Math.min(...X), Max: Math.max(...X), PRelu: X[0] < 0 ? X[0] * X[1] : X[0],
      Where: X[0] ? X[1] : X[2], Expand: X[0], Equal: +(X[0] === X[1]), Greater: +(X[0] > X[1]), GreaterOrEqual: +(X[0] >= X[1]), Less: +(X[0] < X[1]), LessOrEqual: +(X[0] <= X[1]), And: +(X[0] && X[1]), Or: +(X[0] || X[1]), Xor: +(!X[0] !== !X[1]),
      DequantizeLinear: (X[0] - (X[2] || 0)) * X[1], QuantizeLinear: clip(even(Math.fround(X[0] / X[1])) + (X[2] || 0), R.lo, R.hi) }[R.f];
    const sym = { Add: "+", Sum: "+", Sub: "−", Mul: "×", Div: "÷", Pow: "to the power of" }[R.f] || ",";
    return { sum: +y, mag: /Add|Sum|Sub|Mean/.test(R.f) ? X.reduce((a, b) => a + Math.abs(b), 0) : Math.abs(y), show: () => steps([...X.map((v, k) => [(k && sym !== "," ? sym + " " : "") + where(R.r[k]), v]), [R.f, y]]) };
  },
  resize(R, idx) {
    const axes = Object.keys(R.taps).map(Number); let all = [[idx.slice(), 1]];
    for (const a of axes) { const [p, w] = R.taps[a], next = []; for (const [i, f] of all) p[idx[a]].forEach((q, k) => { if (w[idx[a]][k]) { const j = i.slice(); j[a] = q; next.push([j, f * w[idx[a]][k]]); } }); all = next; }
    const terms = all.map(([i, f]) => { const a = value(R.r[0], i); return { lab: `(${axes.map(x => i[x]).join(", ")})`, a, b: f, v: a * f }; }), sum = terms.reduce((s, t) => s + t.v, 0);
    return { sum, mag: terms.reduce((s, t) => s + Math.abs(t.v), 0), show: () => showTerms(terms, 0, false, "neighbours") };
  },
  unpool(R, idx, L) {
    const x = T[R.r[0]].shape, me = ravel(idx, shapeOf(L)), ext = x.slice(2); let y = 0, from = null;
    for (let f = 0; f < prod(ext); f++) { const i = [idx[0], idx[1], ...unravel(f, ext)]; if (value(R.r[1], i) === me) { y = value(R.r[0], i); from = i; } }
    return { sum: y, mag: Math.abs(y), show: () => [el("p", "note", from ? `The pooling kept this place: its number comes back from (${from.slice(2).join(", ")}).` : "The pooling dropped what was here. It cannot come back, so zero is filled in.")] };
  },
};
function moved(L, idx) { // where an element that is not computed comes from: [tensor, index], or null where it is filled in
  const R = L.rule, x = T[R.r[0]].shape;
  switch (R.k) {
    case "same": return [R.r[0], unravel(ravel(idx, shapeOf(L)), x)];
    case "transpose": { const i = []; idx.forEach((v, a) => i[R.perm[a]] = v); return [R.r[0], i]; }
    case "concat": { let at = idx[R.a]; for (let k = 0; k < R.r.length; k++) { if (at < R.sizes[k]) { const i = idx.slice(); i[R.a] = at; return [R.r[k], i]; } at -= R.sizes[k]; } return null; }
    case "slice": return [R.r[0], idx.map((v, a) => R.b[a] + v * R.s[a])];
    case "pad": { const i = []; for (let a = 0; a < idx.length; a++) { let p = idx[a] - R.b[a]; const n = x[a]; if (p < 0 || p >= n) { if (R.m === "constant") return null; p = R.m === "edge" ? clip(p, 0, n - 1) : p < 0 ? -p : 2 * (n - 1) - p; } i.push(p); } return [R.r[0], i]; }
    case "gather": { const i = idx.slice(); if (R.keep) i[R.a] = R.i[i[R.a]]; else i.splice(R.a, 0, R.i[0]); return [R.r[0], i]; }
    case "blocks": { const n = R.n, [b, c, y, w] = idx, k = (y % n) * n + w % n, s = shapeOf(L)[1]; return [R.r[0], [b, R.m === "DCR" ? k * s + c : c * n * n + k, Math.floor(y / n), Math.floor(w / n)]]; }
  }
}
const MOVES = ["same", "transpose", "concat", "slice", "pad", "gather", "blocks"];
function arithmetic(L, idx) {
  const R = L.rule;
  if (!MOVES.includes(R.k)) return A[R.k](R, idx, L);
  const from = moved(L, idx), y = from ? value(...from) : +R.v;
  return { sum: y, mag: Math.abs(y), show: () => showMoved(L, idx, from) };
}
function gathered(R, X, ext) {
  const n = X.length, s = X.reduce((a, b) => a + b, 0), m = X.reduce((a, b) => a + Math.abs(b), 0), q = X.reduce((a, b) => a + b * b, 0); let sum, win = -1;
  if (R.f === "max" || R.f === "min") { win = 0; for (let i = 1; i < n; i++) if (R.f === "max" ? X[i] > X[win] : X[i] < X[win]) win = i; sum = X[win]; }
  else sum = { mean: s / n, sum: s, l1: m, sumsquare: q }[R.f];
  if (R.f === "lp") sum = Math.pow(X.reduce((a, b) => a + Math.pow(Math.abs(b), R.p), 0), 1 / R.p);
  return { sum, mag: { mean: m / n, sum: m, l1: m, sumsquare: q, lp: m }[R.f] || Math.abs(sum), show: () => showWindow({ f: { mean: "average" }[R.f] || R.f, p: R.p }, X, ext, win, sum, n) };
}
const even = x => { const r = Math.round(x); return Math.abs(x % 1) === .5 && r % 2 ? r - 1 : r; }; // halves to even
function erf(x) { // by its series, and its continued fraction where that is shorter
  const a = Math.abs(x);
  if (a > 6) return Math.sign(x);
  if (a < 2.5) { let s = a, t = a; for (let n = 1; n < 80; n++) { t *= -a * a / n; s += t / (2 * n + 1); } return Math.sign(x) * s * 2 / Math.sqrt(Math.PI); }
  let f = 0; for (let n = 60; n > 0; n--) f = n / 2 / (a + f);
  return Math.sign(x) * (1 - Math.exp(-a * a) / Math.sqrt(Math.PI) / (a + f));
}
function F(R) {
  const sg = x => 1 / (1 + Math.exp(-x)), sp = x => x > 30 ? x : Math.log1p(Math.exp(x)), a = R.alpha;
  return { Relu: x => Math.max(x, 0), LeakyRelu: x => x < 0 ? a * x : x, ThresholdedRelu: x => x > a ? x : 0, Elu: x => x < 0 ? a * Math.expm1(x) : x, Selu: x => x > 0 ? R.gamma * x : R.gamma * a * Math.expm1(x),
    Celu: x => Math.max(0, x) + Math.min(0, a * Math.expm1(x / a)), Gelu: x => R.approximate === "tanh" ? .5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + .044715 * x ** 3))) : .5 * x * (1 + erf(x / Math.SQRT2)),
    Swish: x => x * sg(a * x), Affine: x => a * x + R.beta, HardSigmoid: x => clip(a * x + R.beta, 0, 1), Shrink: x => x < -R.lambd ? x + R.bias : x > R.lambd ? x - R.bias : 0, Sigmoid: sg, Tanh: Math.tanh,
    HardSwish: x => x * clip(x / 6 + .5, 0, 1), Mish: x => x * Math.tanh(sp(x)), Softplus: sp, Softsign: x => x / (1 + Math.abs(x)), Exp: Math.exp, Log: Math.log, Sqrt: Math.sqrt, Reciprocal: x => 1 / x, Erf: erf, Abs: Math.abs,
    Neg: x => -x, Sign: Math.sign, Floor: Math.floor, Ceil: Math.ceil, Round: even, Sin: Math.sin, Cos: Math.cos, Not: x => +!x,
    Clip: x => Math.min(Math.max(x, R.min === undefined ? -Infinity : R.min), R.max === undefined ? Infinity : R.max) }[R.f];
}

// ------------------------------------------------------------------ arithmetic, drawn
const where = t => { const i = layerOf(t); return i >= 0 ? LS[i].name : T[t].name; };
function gridOf(X, ext, mark, top) {
  const w = ext[ext.length - 1], big = w > 15 || X.length > 240, g = el("div", "gridv" + (big ? " tiny" : w > 6 ? " small" : ""));
  top = top || Math.max(...X.map(v => v === null ? 0 : Math.abs(v))) || 1;
  g.style.gridTemplateColumns = `repeat(${Math.min(w, 40)},auto)`; g.style.width = "max-content"; g.style.maxWidth = "100%";
  X.slice(0, 1600).forEach((v, i) => {
    const s = el("span", v === null ? "out" : i === mark ? "win" : "", v === null ? "" : cell(v));
    if (v === null) s.title = "outside the input"; else { s.style.background = css(v, top); s.style.color = inkOn(v, top); s.title = num(v); }
    g.append(s);
  });
  return g;
}
const line = (lab, ...kids) => el("div", "line", el("span", "lab", lab), ...kids);
const op = s => el("span", "op", s);
const eq = v => { const e = el("span", "eq " + sign(v), num(v)); return e; };
function showConv(R, channels, bias, has, size) {
  const top = [...channels].sort((a, b) => Math.abs(b.s) - Math.abs(a.s)), out = [];
  if (size === 1) return showTerms(channels.map(c => ({ lab: "channel " + c.c, a: c.X[0] === null ? 0 : c.X[0], b: c.W[0], v: c.s })), bias, has, "channels");
  const n = size > 60 ? 2 : 3, mx = Math.max(...channels.flatMap(c => c.X.map(v => v === null ? 0 : Math.abs(v)))), mw = Math.max(...channels.flatMap(c => c.W.map(Math.abs)));
  for (const c of top.slice(0, n)) {
    const P = c.X.map((v, i) => v === null ? null : v * c.W[i]), ext = R.n.length === 3 ? [R.n[0] * R.n[1], R.n[2]] : R.n.length === 1 ? [1, R.n[0]] : R.n;
    out.push(line("channel " + c.c, gridOf(c.X, ext, -1, mx), op("×"), gridOf(c.W, ext, -1, mw), op("="), gridOf(P, ext), eq(c.s)));
  }
  const rest = top.slice(n).reduce((s, c) => s + c.s, 0);
  if (top.length > n) out.push(line(`${top.length - n} other channel${top.length - n > 1 ? "s" : ""}`, el("span", "hint", "each in the same way, together"), eq(rest)));
  if (has) out.push(line("bias", eq(bias)));
  return out;
}
function showTerms(terms, bias, has, what) {
  const top = [...terms].sort((a, b) => Math.abs(b.v) - Math.abs(a.v)), n = Math.min(top.length, 9), big = Math.abs(top.length ? top[0].v : 1) || 1, out = [];
  for (const t of top.slice(0, n)) {
    const i = el("i", sign(t.v)); i.style.setProperty("--w", Math.abs(t.v) / big * 100 + "%");
    out.push(el("div", "term", el("span", "lab", t.lab), el("span", "", num(t.a)), op("×"), el("span", "", num(t.b)), op("="), signed(t.v), i));
  }
  if (top.length > n) out.push(line(`${top.length - n} other ${what}`, el("span", "hint", "together"), eq(top.slice(n).reduce((s, t) => s + t.v, 0))));
  if (!top.length) out.push(el("p", "note", "Nothing reaches this pixel."));
  if (has) out.push(line("bias", eq(bias)));
  return out;
}
function showWindow(R, X, ext, win, sum, divisor) {
  const e = ext.length === 3 ? [ext[0] * ext[1], ext[2]] : ext.length === 1 ? [1, ext[0]] : ext.length > 3 ? [prod(ext.slice(0, -1)), ext[ext.length - 1]] : ext, inside = X.filter(v => v !== null), out = [gridOf(X, e, win)];
  const s = inside.reduce((a, b) => a + b, 0);
  if (win >= 0) out.push(el("p", "note", `${inside.length} numbers; ${R.f === "min" ? "the smallest" : "the largest"} wins: ${num(sum)}. All others leave no trace.`));
  else if (R.f === "average") out.push(...steps([[`sum of ${inside.length}`, s], ["÷ " + divisor, sum]]));
  else if (R.f === "lp") { const q = inside.reduce((a, b) => a + Math.pow(Math.abs(b), R.p), 0); out.push(...steps([[R.p === 2 ? "sum of squares" : `sum of |x|^${R.p}`, q], [R.p === 2 ? "square root" : `to the power of 1/${R.p}`, sum]])); }
  else out.push(...steps([[R.f === "l1" ? "sum of magnitudes" : R.f === "sumsquare" ? "sum of squares" : "sum", sum]]));
  return out;
}
const SVG = (tag, at, ...kids) => { const e = document.createElementNS("http://www.w3.org/2000/svg", tag); for (const k in at) e.setAttribute(k, at[k]); e.append(...kids); return e; };
function binPicture(ext, bins, lo, hi) {
  if (ext.length !== 2) return "";
  const k = 150 / Math.max(...ext), s = SVG("svg", { viewBox: `-1 -1 ${ext[1] * k + 2} ${ext[0] * k + 2}`, role: "img", "aria-label": "where the bin lies" }); s.style.maxWidth = "160px"; s.style.margin = "10px 0";
  s.append(SVG("rect", { x: 0, y: 0, width: ext[1] * k, height: ext[0] * k, fill: "none", stroke: "var(--soft)" }));
  for (let y = 0; y < bins[0]; y++) for (let x = 0; x < bins[1]; x++) { const a = Math.floor(y * ext[0] / bins[0]), b = Math.ceil((y + 1) * ext[0] / bins[0]), c = Math.floor(x * ext[1] / bins[1]), d = Math.ceil((x + 1) * ext[1] / bins[1]); s.append(SVG("rect", { x: c * k, y: a * k, width: (d - c) * k, height: (b - a) * k, fill: "none", stroke: "var(--line)" })); }
  s.append(SVG("rect", { x: lo[1] * k, y: lo[0] * k, width: (hi[1] - lo[1]) * k, height: (hi[0] - lo[0]) * k, fill: "var(--accent-wash)", stroke: "var(--accent)", "stroke-width": 2 }));
  return s;
}
function showSoftmax(X, e, total, me, log, top) {
  const list = X.map((v, i) => [v, i]).sort((a, b) => b[0] - a[0]).slice(0, 6); if (!list.some(p => p[1] === me)) list.push([X[me], me]);
  const out = list.map(([v, i]) => { const b = el("i"); b.style.setProperty("--w", e[i] / total * 100 + "%"); return el("div", "term", el("span", "lab", (i === me ? "this: " : "") + "class " + i), el("span", "", num(v)), op("→"), el("span", "", num(e[i])), op("→"), el("span", "pos", num(e[i] / total)), b); });
  out.push(el("p", "note", `score → e^(score − largest) → divided by the sum of all ${X.length}, ${num(total)}. The largest score, ${num(top)}, is taken off first so that nothing overflows.${log ? " Then the logarithm." : ""}`));
  return out;
}
function steps(list) { const d = el("div", "steps"); list.forEach(([lab, v], i) => { if (i) d.append(op("→")); d.append(el("div", "", el("small", "", lab), num(v))); }); return [d]; }
function showCurve(R, f, x, y, from, L) {
  const s0 = from && from.stats, a = Math.min(s0 && isFinite(s0.min) ? Math.max(s0.min, x - 12, -60) : -4, x, -1), b = Math.max(s0 && isFinite(s0.max) ? Math.min(s0.max, x + 12, 60) : 4, x, 1), W = 560, H = 190, P = [];
  for (let i = 0; i <= 240; i++) { const u = a + (b - a) * i / 240, v = f(u); if (isFinite(v)) P.push([u, v]); }
  let lo = Math.min(0, y, ...P.map(p => p[1])), hi = Math.max(0, y, ...P.map(p => p[1])); lo = Math.max(lo, Math.min(y, 0) - 60); hi = Math.min(hi, Math.max(y, 0) + 60); if (hi === lo) hi = lo + 1;
  const X = u => (u - a) / (b - a) * W, Y = v => H - (clip(v, lo, hi) - lo) / (hi - lo) * H;
  const svg = SVG("svg", { viewBox: `-10 -14 ${W + 20} ${H + 34}`, role: "img", "aria-label": `${R.f}: ${num(x)} becomes ${num(y)}` }); svg.style.maxWidth = "600px";
  svg.append(SVG("line", { x1: 0, x2: W, y1: Y(0), y2: Y(0), stroke: "var(--line)" }), SVG("line", { x1: X(0), x2: X(0), y1: 0, y2: H, stroke: "var(--line)" }),
    SVG("polyline", { points: P.map(p => `${X(p[0]).toFixed(1)},${Y(p[1]).toFixed(1)}`).join(" "), fill: "none", stroke: "var(--accent)", "stroke-width": 2.5, "stroke-linejoin": "round" }),
    SVG("line", { x1: X(x), x2: X(x), y1: Y(0), y2: Y(y), stroke: "var(--minus)", "stroke-dasharray": "3 3" }), SVG("circle", { cx: X(x), cy: Y(y), r: 6, fill: "var(--minus)", stroke: "var(--card)", "stroke-width": 2 }),
    SVG("text", { x: clip(X(x) + (x > (a + b) / 2 ? -10 : 10), 0, W), y: clip(Y(y) - 10, 4, H), "text-anchor": x > (a + b) / 2 ? "end" : "start" }, `${num(x)} → ${num(y)}`), SVG("text", { x: 0, y: H + 17 }, num(a)), SVG("text", { x: W, y: H + 17, "text-anchor": "end" }, num(b)));
  return [svg];
}
function showMoved(L, idx, from) {
  if (!from) return [el("p", "note", "This element lies in the border that was added: nothing of the input is here.")];
  const out = [], s = shapeOf(L), i = layerOf(from[0]), x = T[from[0]].shape;
  if (L.op === "Dropout" || L.op === "Identity") out.push(el("p", "note", L.op === "Dropout" ? "Nothing happens at inference: the number passes as it is." : "The number passes as it is."));
  if (L.rule.k === "same" && x.length > s.length && x.length > 1) { // how the axes run out
    const f = ravel(idx, s); let left = f; const parts = [];
    x.forEach((n, a) => { const st = prod(x.slice(a + 1)), q = Math.floor(left / st); left -= q * st; if (n > 1) parts.push(`${q} × ${st}`); });
    out.push(el("p", "note", `Element ${f} of the row: ${parts.join(" + ")} = ${f}. The last axis runs fastest.`));
  }
  const b = el("button", "chip", `${where(from[0])} at (${from[1].join(", ")})`); b.type = "button";
  if (i >= 0) b.onclick = () => { select(i, { idx: from[1] }); }; else b.disabled = true;
  out.push(line("comes from", b));
  return out;
}

// ------------------------------------------------------------------ state
let at = 0, map = 0, pix = null, sorted = true, trueSize = false, ticket = 0;
function select(i, { idx, m, focus } = {}) {
  at = clip(i, 0, LS.length - 1);
  const L = LS[at];
  carry(L); pix = null; trueSize = false;
  if (L.view) {
    const onPath = D.path.find(p => p[0] === at), first = idx || (m === undefined && onPath ? onPath.slice(1) : L.points && L.points[0]);
    map = m !== undefined ? m : first ? spot(L, first).m : strongest(L);
    pix = idx || (first && spot(L, first).m === map ? first : null) || (L.points ? L.points.find(p => spot(L, p).m === map) || null : null);
    if (!pix) pix = best(L, map);
  }
  render();
  for (const r of rows) { const on = +r.dataset.i === at; r.setAttribute("aria-selected", on); if (on) { $("layers").setAttribute("aria-activedescendant", r.id); reveal(r, $("layers")); } }
  for (const h of $("path").children) { const on = +h.dataset.i === at; h.setAttribute("aria-current", on); if (on) reveal(h, $("path")); }
  try { history.replaceState(null, "", "#layer=" + at); } catch (e) { /* a page of a file that may not */ }
  if (focus) $("stage").focus();
}
function reveal(e, box) { // scrolls the box alone, not the page
  const a = e.getBoundingClientRect(), b = box.getBoundingClientRect();
  if (a.top < b.top) box.scrollTop += a.top - b.top - 4; else if (a.bottom > b.bottom) box.scrollTop += a.bottom - b.bottom + 4;
  if (a.left < b.left) box.scrollLeft += a.left - b.left - 40; else if (a.right > b.right) box.scrollLeft += a.right - b.right + 40;
}
function best(L, m) { // the strongest pixel of a map
  const v = view(L), e = exact(L, m), k = e ? null : codes(L, m); let b = 0;
  if (e) { for (let i = 1; i < e.length; i++) if (Math.abs(e[i]) > Math.abs(e[b])) b = i; return place(L, m, Math.floor(b / v.w), b % v.w); }
  if (!k) return place(L, m, 0, 0);
  const d = decode(L); for (let i = 1; i < k.data.length; i++) if (Math.abs(d(k.data[i])) > Math.abs(d(k.data[b]))) b = i;
  return place(L, m, Math.min(Math.floor((Math.floor(b / k.w) + .5) * v.h / k.h), v.h - 1), Math.min(Math.floor((b % k.w + .5) * v.w / k.w), v.w - 1));
}

// ------------------------------------------------------------------ the layer
function render() {
  const L = LS[at], S = $("stage"), v = L.view && view(L), st = L.stats;
  S.replaceChildren();
  const head = el("section", "card head", el("p", "kicker", `${at} · ${L.name}${L.part ? " · " + L.part : ""}`), el("h3", "", L.op === "Input" ? "Input" : L.op), el("p", "say", L.words)), facts = el("div", "facts");
  head.querySelector("h3").id = "title"; S.setAttribute("aria-labelledby", "title");
  if (shapeOf(L).length) facts.append(el("span", "chip", by(shapeOf(L)) + (L.dtype === "float32" ? "" : " " + L.dtype)));
  if (L.seconds) facts.append(el("span", "chip", time(L.seconds) + (L.share ? ` · ${(L.share * 100).toFixed(1)} %` : "")));
  if (L.macs) facts.append(el("span", "chip", big(L.macs) + " multiply-adds"));
  if (L.kernel) facts.append(el("span", "chip", "kernel " + L.kernel.join(", ")));
  if (L.domain) facts.append(el("span", "chip", L.domain));
  if (L.fused) facts.append(el("span", "chip", "a run computes it in one with " + L.fused.filter(n => n !== L.name).slice(0, 2).join(", ") + (L.fused.length > 3 ? ` and ${L.fused.length - 3} more` : "")));
  if (L.how === "unused") facts.append(el("span", "chip", "no output needs it"));
  if (L.rounds) facts.append(el("span", "chip", "a run may round it otherwise"));
  const ins = (L.rule ? L.rule.r.map(layerOf) : L.from || []).filter(i => i >= 0);
  for (const i of [...new Set(ins)].slice(0, 6)) { const b = el("button", "chip", "← " + LS[i].name); b.type = "button"; b.onclick = () => select(i); facts.append(b); }
  head.append(facts); S.append(head);
  if (!v) return;
  const two = el("div", "two"), left = el("section", "card"), right = el("section", "card");
  // maps
  const vec = v.count === 1 && v.h === 1;
  if (!vec || v.count > 1) {
    const cap = el("div", "cap", el("h4", "", v.count === 1 ? "One map" : `${v.count} maps`));
    if (v.count > 1) { const b = el("button", "chip" + (sorted ? " on" : ""), sorted ? "strongest first" : "in order"); b.type = "button"; b.onclick = () => { sorted = !sorted; fillGrid(); b.textContent = sorted ? "strongest first" : "in order"; b.classList.toggle("on", sorted); }; cap.append(b); }
    const g = el("div"); g.id = "grid"; g.tabIndex = 0; g.setAttribute("role", "listbox"); g.setAttribute("aria-label", "Maps: arrow keys choose");
    if (v.h === 1 && v.w > 1) g.className = "wide";
    left.append(cap, g);
  } else left.append(el("div", "cap", el("h4", "", v.w > 1 ? `${v.w} numbers` : "One number")));
  const seen = el("div"); seen.id = "seen"; left.append(el("div", "more", figures(L), seen));
  // one of them
  const name = el("h4"); name.id = "mapname";
  const cap = el("div", "cap", name);
  const b = el("button", "chip", "true size"); b.type = "button"; b.onclick = () => { trueSize = !trueSize; b.classList.toggle("on", trueSize); drawBig(); };
  cap.append(b);
  const box = el("div", "big"), c = el("canvas"), o = el("canvas"); c.id = "big"; o.id = "over"; box.append(c, o); box.id = "bigbox";
  o.tabIndex = 0; o.setAttribute("role", "application"); o.setAttribute("aria-label", "Pixels: arrow keys move, or click");
  o.onclick = e => { const r = o.getBoundingClientRect(), h = heightOf(L); pick(clip(Math.floor((e.clientY - r.top) / r.height * h.rows), 0, h.rows - 1), clip(Math.floor((e.clientX - r.left) / r.width * v.w), 0, v.w - 1)); };
  o.onkeydown = e => { const d = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[e.key]; if (!d) return; e.preventDefault(); e.stopPropagation(); const s = spot(L, pix || place(L, map, 0, 0)); pick(clip(s.y + d[0], 0, v.h - 1), clip(s.x + d[1], 0, v.w - 1), true); };
  const under = el("div", "under"); under.id = "under"; under.setAttribute("aria-live", "polite");
  const lg = el("canvas"); lg.id = "legend";
  const jump = el("div", "under"); jump.id = "jump";
  right.append(cap, box, under, jump, el("div", "legend", num(L.scale[0]), lg, num(L.scale[1])));
  two.append(left, right); S.append(two);
  const sum = el("section", "card sum"); sum.id = "sum"; S.append(sum);
  const f = filters(L); if (f) S.append(f);
  fillGrid(); drawBig(); drawSum();
}
const heightOf = L => { const v = view(L); return { rows: v.h }; };
function figures(L) {
  const s = L.stats, d = el("dl", "figs"), add = (k, x) => d.append(el("div", "", el("dt", "", k), el("dd", "", x)));
  if (s.min !== undefined) { add("least", num(s.min)); add("largest", num(s.max)); add("mean", num(s.mean)); add("zeros", (s.zeros * 100).toFixed(s.zeros && s.zeros < .1 ? 1 : 0) + " %"); }
  if (s.silent !== undefined) add("silent maps", `${s.silent} of ${view(L).count}`);
  if (s.bad) add("not finite", "" + s.bad);
  const out = el("div", "", d);
  if (s.hist && s.hist.length) {
    const W = 230, H = 62, top = Math.max(...s.hist.map(Math.sqrt)), n = s.hist.length, svg = SVG("svg", { viewBox: `0 0 ${W} ${H + 18}`, role: "img", "aria-label": `Histogram from ${num(s.min)} to ${num(s.max)}` }); svg.style.marginTop = "14px";
    s.hist.forEach((c, i) => { const v = s.min + (i + .5) * (s.max - s.min) / n, h = Math.sqrt(c) / top * H; svg.append(SVG("rect", { x: i * W / n + .75, y: H - h, width: W / n - 1.5, height: h, rx: 1.5, fill: v < 0 ? "var(--minus)" : "var(--plus)", opacity: .82 }, SVG("title", {}, `${c} near ${num(v)}`))); });
    svg.append(SVG("line", { x1: 0, x2: W, y1: H, y2: H, stroke: "var(--line)" }), SVG("text", { x: 0, y: H + 14 }, num(s.min)), SVG("text", { x: W, y: H + 14, "text-anchor": "end" }, num(s.max)));
    if (s.min < 0 && s.max > 0) svg.append(SVG("text", { x: -s.min / (s.max - s.min) * W, y: H + 14, "text-anchor": "middle" }, "0"));
    out.append(svg);
  }
  return out;
}
function fillGrid() {
  const L = LS[at], g = $("grid"), v = view(L);
  if (!g) return;
  const o = order(L), full = whole(L.t) !== null || D.served;
  let list = sorted ? [...o.shown] : Array.from({ length: v.count }, (_, i) => i).filter(m => full || o.shown.includes(m));
  if (sorted && full && o.strength && list.length < v.count) { const have = new Set(list); list = list.concat(Array.from({ length: v.count }, (_, i) => i).filter(m => !have.has(m))); }
  if (!list.length) list = [map];
  list = list.slice(0, 512);
  g.replaceChildren(...list.map(m => {
    const c = el("canvas"), s = o.strength && o.strength[m], d = el("div", "map" + (o.strength && !s ? " silent" : ""), c, el("span", "", mapName(L, m)));
    d.setAttribute("role", "option"); d.setAttribute("aria-label", `map ${mapName(L, m)}${o.strength ? `, strength ${short(s)}` : ""}`); d.setAttribute("aria-selected", m === map); d.dataset.m = m; d.id = "m" + m;
    d.onclick = () => choose(m); lazy(c, () => drawSmall(c, L, m));
    return d;
  }));
  if (o.shown.length < v.count && !full) g.append(el("p", "hint", `${o.shown.length} of ${v.count}: the strongest fit into the page.`));
  g.onkeydown = e => { const d = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across(g), ArrowDown: across(g) }[e.key]; if (!d) return; e.preventDefault(); e.stopPropagation(); choose(list[clip(list.indexOf(map) + d, 0, list.length - 1)]); };
}
const across = g => { const k = [...g.querySelectorAll(".map")]; const n = k.findIndex(e => e.offsetTop > k[0].offsetTop); return n < 1 ? k.length : n; };
const seenBy = "IntersectionObserver" in window ? new IntersectionObserver(es => { for (const e of es) if (e.isIntersecting) { seenBy.unobserve(e.target); e.target._draw(); } }, { rootMargin: "200px" }) : null;
function lazy(c, draw) { c._draw = draw; if (seenBy) seenBy.observe(c); else draw(); }
function choose(m) {
  const L = LS[at]; map = m; const p = L.points && L.points.find(q => spot(L, q).m === m);
  const s = pix ? spot(L, pix) : null; pix = p && !whollyCarried(L) ? p : best(L, m) || (s && place(L, m, s.y, s.x));
  for (const d of document.querySelectorAll(".map")) { const on = +d.dataset.m === m; d.setAttribute("aria-selected", on); if (on) { $("grid").setAttribute("aria-activedescendant", d.id); reveal(d, $("grid")); } }
  drawBig(); drawSum();
}
function pick(y, x, keys) {
  const L = LS[at]; pix = place(L, map, y, x);
  if (!keys && !D.served && L.points && !whollyCarried(L)) { // a click near a pixel that is carried means that one
    const v = view(L), near = L.points.filter(p => spot(L, p).m === map).map(p => [Math.hypot((spot(L, p).y - y) / v.h, (spot(L, p).x - x) / v.w), p]).sort((a, b) => a[0] - b[0])[0];
    if (near && near[0] < .08) pix = near[1];
  }
  drawBig(); drawSum();
}
async function ask(path) { const r = await fetch(location.pathname.replace(/\/?$/, "/") + path); if (!r.ok) throw Error("the server answered " + r.status); return r.json(); }
function drawBig() {
  const L = LS[at], v = view(L), c = $("big"), o = $("over"), e = exact(L, map), k = e ? null : codes(L, map), vec = v.h === 1 && v.w > 1;
  $("mapname").textContent = v.count > 1 ? "Map " + mapName(L, map) : vec ? "In a row" : "The map";
  if (!e && D.served) { const mine = at, m = map; ask(`map?layer=${mine}&map=${m}`).then(r => { (L._m = L._m || new Map()).set(m, numbers(unbase(r.data), v.h * v.w)); if (at === mine && map === m) drawBig(); }).catch(() => {}); }
  const get = e ? i => e[i] : k ? (d => i => d(k.data[i]))(decode(L)) : null;
  $("bigbox").classList.toggle("true", trueSize);
  if (vec) { const n = e ? v.w : k ? k.w : 1; bars(c, trueSize ? v.w : clip(v.w, 600, 1600), 220, get || (() => 0), n, Math.min(0, L.scale[0]), Math.max(0, L.scale[1])); }
  else pixels(c, e ? v.h : k ? k.h : 1, e ? v.w : k ? k.w : 1, get || (() => 0), most(L));
  c.style.width = trueSize ? v.w + "px" : ""; c.style.aspectRatio = vec ? "" : `${v.w}/${v.h}`;
  const tall = !vec && !trueSize && v.h > v.w; $("bigbox").style.maxWidth = trueSize || vec ? "" : tall ? `min(100%, ${Math.round(420 * v.w / v.h)}px)` : "420px";
  pixels($("legend"), 1, 128, i => L.scale[0] + (L.scale[1] - L.scale[0]) * i / 127, most(L));
  o.style.width = trueSize ? v.w + "px" : "100%"; o.style.height = trueSize && !vec ? v.h + "px" : "100%";
  const q = devicePixelRatio || 1, W = o.width = Math.max(1, Math.round(o.clientWidth * q)), H = o.height = Math.max(1, Math.round(o.clientHeight * q)), g = o.getContext("2d");
  const cw = W / v.w, ch = H / v.h, style = getComputedStyle(document.body);
  if (!whollyCarried(L) && !D.served) for (const p of L.points || []) { const s = spot(L, p); if (s.m !== map) continue; g.beginPath(); g.arc((s.x + .5) * cw, (s.y + .5) * ch, 4.5 * q, 0, 7); g.fillStyle = style.getPropertyValue("--minus"); g.fill(); g.lineWidth = 1.5 * q; g.strokeStyle = style.getPropertyValue("--card"); g.stroke(); }
  if (pix) {
    const s = spot(L, pix), w = Math.max(cw, 5 * q), h = vec ? H : Math.max(ch, 5 * q), x = (s.x + .5) * cw - w / 2, y = vec ? 0 : (s.y + .5) * ch - h / 2;
    g.lineWidth = 3.5 * q; g.strokeStyle = style.getPropertyValue("--card"); g.strokeRect(x, y, w, h); g.lineWidth = 2 * q; g.strokeStyle = style.getPropertyValue("--ink"); g.strokeRect(x, y, w, h);
  }
  let shown = "";
  if (pix) { const s = spot(L, pix), ex = probe(L, pix); const i = k ? Math.floor(s.y * k.h / v.h) * k.w + Math.floor(s.x * k.w / v.w) : 0; shown = ex !== null ? "= " + num(ex) : k ? "≈ " + short(get(i)) : ""; if (vec) $("under").replaceChildren(el("span", "", `number ${s.x}`), el("b", "", shown)); else $("under").replaceChildren(el("span", "", `row ${s.y}, column ${s.x}`), el("b", "", shown)); }
  o.setAttribute("aria-label", `Pixels: arrow keys move, or click. ${pix ? `Now ${pix.join(", ")} ${shown}` : ""}`);
  drawSeen();
}
function probe(L, idx) { try { return value(L.t, idx); } catch (e) { if (L._m && L._m.has(map)) { const s = spot(L, idx); return L._m.get(map)[s.y * view(L).w + s.x]; } return null; } }

// ------------------------------------------------------------------ what it sees of the input
function sees(L, idx) { // [axis of the input, first, last] for each; null for all
  if (L.sees) return L.sees.map(([a, to, s, lo, hi]) => [to, Math.floor(idx[a] * s + lo), Math.ceil(idx[a] * s + hi)]);
  if (L.rule && L.rule.k === "bins") { const R = L.rule, b = binOf(R, idx, T[R.r[0]].shape), S = LS[layerOf(R.r[0])]; return S && S.sees ? S.sees.map(([a, to, s, lo, hi]) => [to, Math.floor(b.lo[a - 2] * s + lo), Math.ceil((b.hi[a - 2] - 1) * s + hi)]) : null; }
  if (L.rule && MOVES.includes(L.rule.k)) { const f = moved(L, idx), i = f ? layerOf(f[0]) : -1; if (i >= 0) return sees(LS[i], f[1]); }
  return null;
}
function drawSeen() {
  const card = $("seen"), L = LS[at], I = D.seen;
  if (!card) return;
  card.replaceChildren(el("h4", "", "What it sees of the input"));
  if (!I || !pix) { card.append(el("p", "note", I ? "Choose a pixel." : "The input is not a picture.")); return; }
  const r = sees(L, pix), shape = T[layerT(I.t)].shape, box = el("div", "sees"), img = el("img"), c = el("canvas"); img.src = I.png; img.alt = "The input"; box.append(img, c); card.append(box);
  const [h, w] = [shape[I.axes[0]], shape[I.axes[1]]], y = r && r.find(a => a[0] === I.axes[0]), x = r && r.find(a => a[0] === I.axes[1]);
  const Y = y ? [clip(y[1], 0, h - 1), clip(y[2], 0, h - 1)] : [0, h - 1], X = x ? [clip(x[1], 0, w - 1), clip(x[2], 0, w - 1)] : [0, w - 1], q = 2, W = c.width = 300 * q, H = c.height = Math.round(300 * q * h / w), g = c.getContext("2d");
  box.style.aspectRatio = `${w}/${h}`; img.style.aspectRatio = `${w}/${h}`;
  g.fillStyle = dark ? "#0009" : "#fffa"; g.fillRect(0, 0, W, H); const rx = X[0] / w * W, ry = Y[0] / h * H, rw = Math.max((X[1] - X[0] + 1) / w * W, 3), rh = Math.max((Y[1] - Y[0] + 1) / h * H, 3);
  g.clearRect(rx, ry, rw, rh); g.strokeStyle = dark ? "#f2976a" : "#b3481c"; g.lineWidth = 5; g.strokeRect(rx, ry, rw, rh);
  const all = Y[1] - Y[0] + 1 >= h && X[1] - X[0] + 1 >= w;
  card.append(el("p", "note", (all ? "All of the input." : `Rows ${Y[0]} to ${Y[1]}, columns ${X[0]} to ${X[1]}: ${Y[1] - Y[0] + 1} × ${X[1] - X[0] + 1} of ${h} × ${w} pixels${y && (y[1] < 0 || y[2] >= h) || x && (x[1] < 0 || x[2] >= w) ? "; the rest lies in the border" : ""}.`) + (L.gated && !all ? " By a gate or a normalisation it also depends on more." : "")));
}
const layerT = name => D.tensors.findIndex(t => t[0] === name);

// ------------------------------------------------------------------ the sum beside the engine's
function drawSum() {
  const L = LS[at], card = $("sum"), mine = ++ticket;
  $("jump").replaceChildren();
  const title = t => el("div", "cap", el("h4", "", t));
  if (!L.rule) { card.replaceChildren(title("Its arithmetic"), el("p", "note", L.op === "Input" ? "This is what goes in. Every number behind it follows from it." : `For ${L.op} the page shows the values, not how each is computed.`)); return; }
  if (!pix) return;
  const head = title(`How ${view(L).count > 1 ? `pixel (${spot(L, pix).y}, ${spot(L, pix).x}) of map ${mapName(L, map)}` : `element (${pix.join(", ")})`} comes about`);
  let r, engine;
  try { r = arithmetic(L, pix); engine = value(L.t, pix); }
  catch (e) {
    if (!(e instanceof Missing)) throw e;
    if (D.served) {
      card.replaceChildren(head, el("p", "note", "Asking the engine …"));
      ask(`need?layer=${at}&index=${pix.join(",")}`).then(a => { for (const b of a.boxes) T[b.t].boxes.push({ lo: b.lo, n: b.n, data: numbers(unbase(b.data), prod(b.n)) }); if (mine === ticket) { drawSum(); drawBig(); } })
        .catch(x => { if (mine === ticket) card.replaceChildren(head, el("p", "note", "The engine did not answer: " + x.message)); });
      return;
    }
    const chips = el("div", "facts");
    for (const p of L.points || []) { const b = el("button", "chip point", `${view(L).count > 1 ? "map " + mapName(L, spot(L, p).m) + " " : ""}(${spot(L, p).y}, ${spot(L, p).x})`); b.type = "button"; b.onclick = () => { map = spot(L, p).m; pix = p; fillGrid(); drawBig(); drawSum(); }; chips.append(b); }
    card.replaceChildren(head, el("p", "note", (L.points ? "The page carries the exact numbers of these pixels of this layer:" : "The numbers of this layer did not fit into the page.")), chips, el("p", "hint", "cnnengine view MODEL IMAGE --serve computes any pixel; --budget makes the page larger."));
    return;
  }
  const tol = (L.tol || 1e-5) * Math.max(Math.abs(engine), isFinite(r.mag) ? r.mag : 0, 1e-30), diff = Math.abs(r.sum - engine), same = r.sum === engine || (Number.isNaN(r.sum) && Number.isNaN(engine)), ok = same || diff <= tol;
  const v = el("div", "verdict" + (ok ? "" : " off"), el("div", "", el("small", "", "computed here"), el("b", "", num(r.sum))), el("div", "", el("small", "", "computed by the engine"), el("b", "", num(engine))), el("div", "", el("small", "", "difference"), el("b", "", same ? "0" : diff.toExponential(1).replace("-", "−"))), el("div", "mark", ok ? "✓ they agree" : "✗ they differ"));
  v.id = "verdict"; v.setAttribute("role", "status"); Object.assign(v.dataset, { sum: r.sum, engine, mag: r.mag, ok: ok ? 1 : 0, layer: at, index: pix.join(",") });
  card.replaceChildren(head, ...r.show(), v);
  const go = el("button", "chip", (ok ? "✓ it adds up" : "✗ it does not add up") + " ↓"); go.type = "button"; go.onclick = () => card.scrollIntoView({ behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth", block: "nearest" });
  $("jump").replaceChildren(go);
}

// ------------------------------------------------------------------ filters
function filters(L) {
  const R = L.rule;
  if (!R || R.k !== "conv" || R.n.length !== 2 || prod(R.n) < 4) return null;
  const w = T[R.r[1]].shape, a = whole(R.r[1]);
  if (!a || ![1, 3].includes(w[1]) || R.g > 1) return null;
  const n = w[2] * w[3], card = el("section", "card", el("div", "cap", el("h4", "", `Its ${w[0]} filters`), el("span", "chip", w[1] === 3 ? "as colour pictures" : "blue adds, orange takes away"))), list = el("div", "filters");
  let top = 0; for (const x of a) top = Math.max(top, Math.abs(x));
  for (let f = 0; f < Math.min(w[0], 256); f++) {
    const c = el("canvas"), b = el("button", f === map ? "on" : "", c); b.type = "button"; b.title = "filter " + f; b.setAttribute("aria-label", "filter " + f); b.onclick = () => { choose(f); for (const k of list.children) k.classList.toggle("on", k === b); };
    if (w[1] === 1) pixels(c, w[2], w[3], i => a[f * n + i], top);
    else {
      let m = 1e-12; for (let i = 0; i < 3 * n; i++) m = Math.max(m, Math.abs(a[f * 3 * n + i]));
      c.width = w[3]; c.height = w[2]; const g = c.getContext("2d"), im = g.createImageData(w[3], w[2]);
      for (let i = 0; i < n; i++) im.data.set([0, 1, 2].map(k => 127.5 + 127.5 * a[f * 3 * n + k * n + i] / m).concat(255), i * 4);
      g.putImageData(im, 0, 0);
    }
    list.append(b);
  }
  card.append(list);
  return card;
}

// ------------------------------------------------------------------ the frame
let rows = [];
function build() {
  $("model").textContent = D.model;
  $("sub").textContent = [D.title, `${LS.filter(L => L.op !== "Input").length} layers`, D.seconds ? "one run " + time(D.seconds) : "", `cnnengine ${D.version}, ${D.isa}, ${D.threads} thread${D.threads > 1 ? "s" : ""}`].filter(Boolean).join(" · ");
  const src = D.picture || D.seen && D.seen.png;
  if (src) { const i = el("img", D.seen && Math.max(D.seen.w, D.seen.h) <= 64 ? "tiny" : ""); i.src = src; i.alt = "The picture"; $("picture").append(i, el("figcaption", "", D.title || "input")); }
  const res = $("result");
  for (const it of D.result.items) {
    res.append(el("h2", "", it.name));
    if (it.drawn) { const i = el("img"); i.src = it.drawn; i.alt = "The result, drawn"; res.append(i); }
    if (it.text && !(it.rows && it.rows.length && it.unit !== "box")) res.append(el("p", "hint", it.text));
    const top = Math.max(...(it.rows || []).map(r => Math.abs(r[1] || 0)), it.unit === "probability" || it.unit === "box" || it.unit === "share of pixels" ? 1 : 1e-30);
    for (const [lab, v] of it.rows || []) { const b = el("i"); b.style.setProperty("--w", Math.abs(v || 0) / top * 100 + "%"); res.append(el("div", "rank", el("span", "", lab), el("span", "v", it.unit === "score" ? num(v) : (v * 100).toFixed(v < .1 ? 2 : 1) + " %"), b)); }
  }
  for (const s of D.result.said) res.append(el("p", "hint", s));
  if (!D.result.items.length && !D.result.said.length) res.append(el("p", "hint", "No result."));
  const hops = D.path.length ? D.path.map(([i, ...idx]) => ({ i, idx })) : LS.map((L, i) => ({ i })).filter(h => LS[h.i].view && LS[h.i].maps).slice(0, 60);
  for (const { i, idx } of hops) {
    const L = LS[i], c = el("canvas"), b = el("button", "hop", c, el("b", "", L.op), el("span", "", idx ? (L.view && view(L).count > 1 ? "map " + mapName(L, spot(L, idx).m) : idx.length > 1 && view(L).h === 1 ? "no. " + spot(L, idx).x : "") : by(shapeOf(L).slice(1)))); b.type = "button"; b.dataset.i = i; b.title = L.name;
    b.onclick = () => select(i, idx ? { idx } : {});
    c.style.width = c.style.height = ""; lazy(c, () => { if (L.view) hopPicture(c, L, idx); });
    $("path").append(b);
  }
  $("path").before(el("span", "sr", D.path.length ? "From the first class back, the largest term of each sum." : ""));
  const slow = Math.max(...LS.map(L => L.seconds || 0), 1e-12);
  rows = LS.map((L, i) => {
    const c = el("canvas"), bar = el("i"), t = el("div", "t"), r = el("div", "row", el("span", "n", "" + i), el("b", "", L.op), el("span", "s", by(shapeOf(L).slice(shapeOf(L).length > 1 ? 1 : 0))));
    if (L.view && L.maps) { r.append(c); lazy(c, () => stripe(c, L)); }
    if (L.seconds) { bar.style.setProperty("--w", Math.max(2, L.seconds / slow * 90) + "px"); t.append(bar, el("em", "", time(L.seconds) + (L.kernel ? " · " + L.kernel[0] : ""))); r.append(t); }
    else if (L.fused) { t.append(el("em", "", "in one with " + (L.fused.find(n => n !== L.name) || ""))); r.append(t); }
    r.setAttribute("role", "option"); r.id = "l" + i; r.dataset.i = i; r.title = L.name; r.onclick = () => select(i);
    return r;
  });
  $("layers").append(...rows);
  $("layers").onkeydown = e => { const d = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1, PageDown: 10, PageUp: -10, Home: -1e9, End: 1e9 }[e.key]; if (!d) return; e.preventDefault(); e.stopPropagation(); step(d); };
  document.addEventListener("keydown", e => { if (e.target.tagName === "INPUT" || e.ctrlKey || e.metaKey || e.altKey) return; const d = { ArrowDown: 1, ArrowUp: -1, j: 1, k: -1 }[e.key]; if (d && (e.target === document.body || e.target.id === "stage" || !e.key.startsWith("Arrow"))) { e.preventDefault(); step(d); } if (e.key === "t") flip(); });
  $("find").oninput = e => { const q = e.target.value.toLowerCase(); for (const r of rows) { const L = LS[r.dataset.i]; r.hidden = !(L.op + " " + L.name + " " + T[L.t].name).toLowerCase().includes(q); r.style.display = r.hidden ? "none" : ""; } };
  $("theme").onclick = flip;
  const notes = [...(D.notes || []), D.untimed ? "Not timed: " + D.untimed : ""].filter(Boolean);
  $("foot").append(...notes.map(n => el("p", "", n)), el("p", "", "Times are of a run, which computes neighbouring layers in one where it can; values are what each node of the file gives. Colours show magnitude: blue above zero, orange below. ", el("kbd", "", "↑"), " ", el("kbd", "", "↓"), " layers, ", el("kbd", "", "Tab"), " to maps and pixels, arrows within them, ", el("kbd", "", "t"), " light or dark."));
  let t; addEventListener("resize", () => { clearTimeout(t); t = setTimeout(() => LS[at].view && drawBig(), 120); });
}
function step(d) { let i = at, s = Math.sign(d), n = Math.abs(d); while (n && i + s >= 0 && i + s < LS.length) { i += s; if (!rows[i].hidden) n--; } while (rows[i].hidden && i !== at) i -= s; select(i); }
function stripe(c, L) { // the strongest maps side by side
  const v = view(L), o = order(L);
  if (v.h === 1 || v.count === 1 && v.h * v.w < 2) { drawSmall(c, L, strongest(L), true); c.style.width = "100%"; return; }
  const n = Math.min(o.shown.length, 8), side = 48, gap = 6; c.width = n * (side + gap); c.height = side; c.style.width = c.width / 2 + "px"; c.style.maxWidth = "100%"; c.style.objectFit = "cover"; c.style.objectPosition = "left";
  const g = c.getContext("2d"), tmp = el("canvas"); g.imageSmoothingEnabled = false;
  for (let k = 0; k < n; k++) if (drawSmall(tmp, L, o.shown[k])) { const f = side / Math.max(tmp.width, tmp.height); g.drawImage(tmp, k * (side + gap), 0, tmp.width * f, tmp.height * f); }
}
function hopPicture(c, L, idx) {
  const m = idx ? spot(L, idx).m : strongest(L), tmp = el("canvas"), v = view(L);
  c.width = c.height = 108;
  const g = c.getContext("2d"); g.imageSmoothingEnabled = false;
  if (!drawSmall(tmp, L, m)) { const p = idx && probeAt(L, idx); g.fillStyle = css(p || 0, most(L)); g.fillRect(0, 0, 108, 108); }
  else if (v.h === 1 && v.w > 1) g.drawImage(tmp, 0, 30, 108, 54);
  else { const f = 108 / Math.max(tmp.width, tmp.height); g.drawImage(tmp, (108 - tmp.width * f) / 2, (108 - tmp.height * f) / 2, tmp.width * f, tmp.height * f); }
  if (idx && v.w * v.h > 1) { const s = spot(L, idx), k = 108 / Math.max(v.h, v.w), vec = v.h === 1; g.strokeStyle = dark ? "#ffb48a" : "#c2410c"; g.lineWidth = 4; const x = vec ? (s.x + .5) / v.w * 108 : (108 - v.w * k) / 2 + (s.x + .5) * k, y = vec ? 57 : (108 - v.h * k) / 2 + (s.y + .5) * k; g.beginPath(); g.arc(clip(x, 6, 102), clip(y, 6, 102), Math.max(k * .7, 8), 0, 7); g.stroke(); }
}
const probeAt = (L, idx) => { try { carry(L); return value(L.t, idx); } catch (e) { return null; } };
function theme() { document.documentElement.dataset.theme = dark ? "dark" : "light"; $("theme").textContent = dark ? "☾" : "☀"; $("theme").setAttribute("aria-pressed", dark); }
function flip() { dark = !dark; theme(); for (const c of document.querySelectorAll("#layers canvas, #path canvas")) if (c._draw) c._draw(); render(); }
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", e => { if (e.matches !== dark) flip(); });
theme(); build();
const wanted = /^#layer=(\d+)$/.exec(location.hash);
select(wanted ? +wanted[1] : Math.min(1, LS.length - 1));
document.documentElement.dataset.ready = LS.length;
})();
