"""What ONNX says of operators that `cnnengine.ops` lacks; made by tools/make_schemas.py as `schemas` is."""

from __future__ import annotations

OTHER: dict[str, dict[str, tuple[str, ...]]] = {
    "": {
        "Attention": (
            "23 3 6 1 4 is_causal:2 kv_num_heads:2 q_num_heads:2 qk_matmul_output_mode:2 scale:1 softcap:1 softmax_precision:2",
            "24 3 7 1 4 is_causal:2 kv_num_heads:2 q_num_heads:2 qk_matmul_output_mode:2 scale:1 softcap:1 softmax_precision:2",
            "25 3 7 1 4 is_causal:2 kv_num_heads:2 left_window_size:2 q_num_heads:2 qk_matmul_output_mode:2 "
            "right_window_size:2 scale:1 softcap:1 softmax_precision:2",
        ),
        "Bernoulli": (
            "15 1 1 1 1 dtype:2 seed:1",
            "22 1 1 1 1 dtype:2 seed:1",
        ),
        "BlackmanWindow": ("17 1 1 1 1 output_datatype:2 periodic:2",),
        "CausalConvWithState": ("27 2 4 2 2 activation:3",),
        "CenterCropPad": ("18 2 2 1 1 axes:7",),
        "HammingWindow": ("17 1 1 1 1 output_datatype:2 periodic:2",),
        "HannWindow": ("17 1 1 1 1 output_datatype:2 periodic:2",),
        "LinearAttention": ("27 3 6 2 2 chunk_size:2 kv_num_heads!:2 q_num_heads!:2 scale:1 update_rule:3",),
        "MaxRoiPool": (
            "1 2 2 1 1 pooled_shape!:7 spatial_scale:1",
            "22 2 2 1 1 pooled_shape!:7 spatial_scale:1",
        ),
        "MelWeightMatrix": ("17 5 5 1 1 output_datatype:2",),
        "Multinomial": (
            "7 1 1 1 1 dtype:2 sample_size:2 seed:1",
            "22 1 1 1 1 dtype:2 sample_size:2 seed:1",
        ),
        "RandomNormal": (
            "1 0 0 1 1 dtype:2 mean:1 scale:1 seed:1 shape!:7",
            "22 0 0 1 1 dtype:2 mean:1 scale:1 seed:1 shape!:7",
        ),
        "RandomNormalLike": (
            "1 1 1 1 1 dtype:2 mean:1 scale:1 seed:1",
            "22 1 1 1 1 dtype:2 mean:1 scale:1 seed:1",
        ),
        "RandomUniform": (
            "1 0 0 1 1 dtype:2 high:1 low:1 seed:1 shape!:7",
            "22 0 0 1 1 dtype:2 high:1 low:1 seed:1 shape!:7",
        ),
        "RandomUniformLike": (
            "1 1 1 1 1 dtype:2 high:1 low:1 seed:1",
            "22 1 1 1 1 dtype:2 high:1 low:1 seed:1",
        ),
        "RotaryEmbedding": ("23 3 4 1 1 interleaved:2 num_heads:2 rotary_embedding_dim:2",),
        "SwiGLU": ("28 2 2 1 1 alpha:1",),
        "TensorScatter": ("24 2 3 1 1 axis:2 mode:3",),
        "TfIdfVectorizer": (
            "9 1 1 1 1 max_gram_length!:2 max_skip_count!:2 min_gram_length!:2 mode!:3 ngram_counts!:7 ngram_indexes!:7 "
            "pool_int64s:7 pool_strings:8 weights:6",
        ),
    },
    "ai.onnx.ml": {
        "ArrayFeatureExtractor": ("1 2 2 1 1",),
        "Binarizer": ("1 1 1 1 1 threshold:1",),
        "CastMap": ("1 1 1 1 1 cast_to:3 map_form:3 max_map:2",),
        "CategoryMapper": ("1 1 1 1 1 cats_int64s:7 cats_strings:8 default_int64:2 default_string:3",),
        "DictVectorizer": ("1 1 1 1 1 int64_vocabulary:7 string_vocabulary:8",),
        "FeatureVectorizer": ("1 1 * 1 1 inputdimensions:7",),
        "Imputer": ("1 1 1 1 1 imputed_value_floats:6 imputed_value_int64s:7 replaced_value_float:1 replaced_value_int64:2",),
        "LabelEncoder": (
            "1 1 1 1 1 classes_strings:8 default_int64:2 default_string:3",
            "2 1 1 1 1 default_float:1 default_int64:2 default_string:3 keys_floats:6 keys_int64s:7 keys_strings:8 "
            "values_floats:6 values_int64s:7 values_strings:8",
            "4 1 1 1 1 default_float:1 default_int64:2 default_string:3 default_tensor:4 keys_floats:6 keys_int64s:7 "
            "keys_strings:8 keys_tensor:4 values_floats:6 values_int64s:7 values_strings:8 values_tensor:4",
        ),
        "LinearClassifier": (
            "1 1 1 2 2 classlabels_ints:7 classlabels_strings:8 coefficients!:6 intercepts:6 multi_class:2 post_transform:3",
        ),
        "LinearRegressor": ("1 1 1 1 1 coefficients:6 intercepts:6 post_transform:3 targets:2",),
        "Normalizer": ("1 1 1 1 1 norm:3",),
        "OneHotEncoder": ("1 1 1 1 1 cats_int64s:7 cats_strings:8 zeros:2",),
        "SVMClassifier": (
            "1 1 1 2 2 classlabels_ints:7 classlabels_strings:8 coefficients:6 kernel_params:6 kernel_type:3 post_transform:3 "
            "prob_a:6 prob_b:6 rho:6 support_vectors:6 vectors_per_class:7",
        ),
        "SVMRegressor": (
            "1 1 1 1 1 coefficients:6 kernel_params:6 kernel_type:3 n_supports:2 one_class:2 post_transform:3 rho:6 "
            "support_vectors:6",
        ),
        "Scaler": ("1 1 1 1 1 offset:6 scale:6",),
        "TreeEnsemble": (
            "5 1 1 1 1 aggregate_function:2 leaf_targetids!:7 leaf_weights!:4 membership_values:4 n_targets:2 "
            "nodes_falseleafs!:7 nodes_falsenodeids!:7 nodes_featureids!:7 nodes_hitrates:4 nodes_missing_value_tracks_true:7 "
            "nodes_modes!:4 nodes_splits!:4 nodes_trueleafs!:7 nodes_truenodeids!:7 post_transform:2 tree_roots!:7",
        ),
        "TreeEnsembleClassifier": (
            "1 1 1 2 2 base_values:6 class_ids:7 class_nodeids:7 class_treeids:7 class_weights:6 classlabels_int64s:7 "
            "classlabels_strings:8 nodes_falsenodeids:7 nodes_featureids:7 nodes_hitrates:6 nodes_missing_value_tracks_true:7 "
            "nodes_modes:8 nodes_nodeids:7 nodes_treeids:7 nodes_truenodeids:7 nodes_values:6 post_transform:3",
            "3 1 1 2 2 base_values:6 base_values_as_tensor:4 class_ids:7 class_nodeids:7 class_treeids:7 class_weights:6 "
            "class_weights_as_tensor:4 classlabels_int64s:7 classlabels_strings:8 nodes_falsenodeids:7 nodes_featureids:7 "
            "nodes_hitrates:6 nodes_hitrates_as_tensor:4 nodes_missing_value_tracks_true:7 nodes_modes:8 nodes_nodeids:7 "
            "nodes_treeids:7 nodes_truenodeids:7 nodes_values:6 nodes_values_as_tensor:4 post_transform:3",
            "5 1 1 2 2 deprecated base_values:6 base_values_as_tensor:4 class_ids:7 class_nodeids:7 class_treeids:7 "
            "class_weights:6 class_weights_as_tensor:4 classlabels_int64s:7 classlabels_strings:8 nodes_falsenodeids:7 "
            "nodes_featureids:7 nodes_hitrates:6 nodes_hitrates_as_tensor:4 nodes_missing_value_tracks_true:7 nodes_modes:8 "
            "nodes_nodeids:7 nodes_treeids:7 nodes_truenodeids:7 nodes_values:6 nodes_values_as_tensor:4 post_transform:3",
        ),
        "TreeEnsembleRegressor": (
            "1 1 1 1 1 aggregate_function:3 base_values:6 n_targets:2 nodes_falsenodeids:7 nodes_featureids:7 nodes_hitrates:6 "
            "nodes_missing_value_tracks_true:7 nodes_modes:8 nodes_nodeids:7 nodes_treeids:7 nodes_truenodeids:7 "
            "nodes_values:6 post_transform:3 target_ids:7 target_nodeids:7 target_treeids:7 target_weights:6",
            "3 1 1 1 1 aggregate_function:3 base_values:6 base_values_as_tensor:4 n_targets:2 nodes_falsenodeids:7 "
            "nodes_featureids:7 nodes_hitrates:6 nodes_hitrates_as_tensor:4 nodes_missing_value_tracks_true:7 nodes_modes:8 "
            "nodes_nodeids:7 nodes_treeids:7 nodes_truenodeids:7 nodes_values:6 nodes_values_as_tensor:4 post_transform:3 "
            "target_ids:7 target_nodeids:7 target_treeids:7 target_weights:6 target_weights_as_tensor:4",
            "5 1 1 1 1 deprecated aggregate_function:3 base_values:6 base_values_as_tensor:4 n_targets:2 nodes_falsenodeids:7 "
            "nodes_featureids:7 nodes_hitrates:6 nodes_hitrates_as_tensor:4 nodes_missing_value_tracks_true:7 nodes_modes:8 "
            "nodes_nodeids:7 nodes_treeids:7 nodes_truenodeids:7 nodes_values:6 nodes_values_as_tensor:4 post_transform:3 "
            "target_ids:7 target_nodeids:7 target_treeids:7 target_weights:6 target_weights_as_tensor:4",
        ),
        "ZipMap": ("1 1 1 1 1 classlabels_int64s:7 classlabels_strings:8",),
    },
    "ai.onnx.preview": {
        "FlexAttention": ("1 3 3 1 1 prob_mod:5 scale:1 score_mod:5 softmax_precision:2",),
    },
    "ai.onnx.preview.training": {
        "Adagrad": ("1 3 * 1 * decay_factor:1 epsilon:1 norm_coefficient:1",),
        "Adam": ("1 3 * 1 * alpha:1 beta:1 epsilon:1 norm_coefficient:1 norm_coefficient_post:1",),
        "Gradient": ("1 1 * 1 * xs!:8 y!:3 zs:8",),
        "Momentum": ("1 3 * 1 * alpha!:1 beta!:1 mode!:3 norm_coefficient!:1",),
    },
}
"""Domain -> operator -> its schemas, the oldest first, in the lines of `schemas`."""

BODIES: dict[str, dict[str, tuple[tuple[int, str], ...]]] = {
    "": {
        "BlackmanWindow": (
            (
                17,
                "$4]C=@:O(i@;].\\DId[0+p;t$H=\\Q1Dfp/@F`]AEE+O'(De*Ql1(S;GFDuAE?Y!Se@<?d6AND:R!^SLa#X`NJF*(i.F=J%5\"a4<j"
                'F_*$0&-3sX4UTe)63*YZ">Ts<!\'2SB!^SOb#X`NJF*(i.F=J%5"a4<jF_*$0&-3sX!!!!`63*YZ">Ts<!\'2SB!^SRc#X`NJF*(i.'
                "F=J%5\"a4<jF_*$0&-3sX$J2%963*YZ\">Ts<!'2YD\"BoAWD^#HSDf0W<@;^0:(((4g@;L't.LH^f+p7lG!!#=cTE,0N!'1*@.hVq["
                "DIk!t6Z6j`FCB'/.M`?pG%#30AL\\#u!?qXH!.[:#!2'>q1&s?83\\(gF<-N7)#X`NJF*(i.F=J%5\"a4<jF_*$0&-3sX!!!!a63*YZ"
                '">Ts<!\'2VC"&r]O+p^PSDKBo.DKI?D$3bT]Cis;=$4m4^"PXI/5XGID!<b.X3WM2m$3YEaH=[^#:h=Z]De*Ql?W1ZbAR@o\'+p:8A'
                "F*&l<$3G<f(]g91!\\sa:!'2nC&5ZqYBl@Nr@p`/KH=^GQ:^R;#DIjFm;gE4sATVs,@p`/KH=^GQ:a-!?F^d*+3WM2u&dh3O:h=Z]"
                "De*Ql+p^PSDKBo.DKI?G$41laCis;rBl8$c!<T8%#]O?qBl@Nr@kn$F!'2e@$;#;8ATDL'A8,Nd%7tV;ATDL'A8,O\\7Sk936Xb%X"
                ".L?F`FDhusTE,*L!'1*@/IDSUDIj.a8TR^>EbTH&Bk(L>:_F70F&R@$D.Rg0Bk(L>:a-!?F^d*+3WM3)$4p$FEbTH&Bk(LKBmO>t"
                "7SjF$8TR^>EbTH&Bk(L>:_FC;ATDL'A8,O\\6Z6g\\Df0-(F<Uf]F_if53WM3,$5$3^D/Ej+EbT#j;e^Ph?Udj!%S:_?H#7D0FE2)*"
                "?Udj)'2s0nD.Rg0Bk(L;Df'H3DIm^-+p1P^CbbuO!'31K&l<.[Bl@Nr@p_TAD/aE2ASuSs'2s0nD.Rg0Bk(L;Df'H3DIm^-&dM?L"
                "H=^GQ:a-!-A7RFq3WM2i$3O79FUA@PBmO>t7Sj^/6#L=XCgh?UDI[]uD.RU,+p15IFts%Y!'2b?\"BoAWD[I%PATDL'A8,O\\;e^Ph"
                '?Udj!"&EfG&d;0ADJ*N)"]AcHB4Wgu3WM2p$3a=9DJ*Mf&4(2HF_kK,8T&$YASl!rF:o![@;]^h6#L=XCgh?."&3oS1&s?83\\:[I'
                ";IOHUAO13HF_kK,$3O7OD\\<R[GAgAfDJ*NHDJ+*.@<*Oo9m(8-!'1*@/d`+gGAgAfDJ*NHDJ+*.@<)tn6Z7$FGAgAfDJ*NHDJ+*."
                '@<*Oo6Z7$$!\'1*@0+%bH1("X]Df\\m%Dc1"]B4XAHB6A$!EY8dH11*CeD/aE2ASuT6"&3oS1&s?83[b=D;IOHUAO13HF_kK,&e@?J'
                'F&HFaB4XAHB6A$!EZtTQDf[Z63WM2l$3ELJ$4fLBF&HFaB4XAHB6A$!EY8dH0jd:dD/aE2ASuT6"&3oS1&s?83[+n45qiWS5qu_6'
                'Df\'H3DIm^-&d;6GD/_0Q"&j>O1&s?83[G+:<+Toc0FA4S11*CeD/aE2ASuT&"]T&ME%rO=6"FL]!\'1*@1^XCcASlB@&dE8sFDuAE'
                '+p:8AF*&lL$3G<fTE,+o!=s*kFDuAE?Y!Se@<?d6AMO6H!($ZX":>,?&Q/U4%giS]ATDL\'A8,Nj!MBGp=r%GUDfp/@F`^u$@<>q"'
                "H#R=3!MBGp",
            ),
        ),
        "HammingWindow": (
            (
                17,
                "$4TO7D/F!)B3/ebA8cZ9\"ES:'AL[n&F`_SFF>=,@ATDL'A8,O/%rZT4E-680A79RgFEqh:3[taD5qjJg6Z6j`FCB'/.M`?pG%#30"
                "AL\\#u!?qYW+U^M$!2'>q1&s?83[taD5qsPh6Z6j`FCB'/.M`?pG%#30AL\\#u!?qY+^$.^I!2'>q1&s?83[taD5r'Vi6Z6j`FCB'/"
                ".M`?pG%#30AL\\#u!?qXH!!!!c!2'>q1&s?83\\1mH>%M_m+p^PSDKBo.DKI?D$3bT]Cis;=$4m4^\"98E%!($[Y!<b.X3WM2k&d(pI"
                "AKhCIDf0W<@;^0:(((4g@;L't.LH^f+p7lGJ3Q@#TE,0N!'1*@.hVq`GAeZ26Z6j`FCB'/.M`?pG%#30AL\\#u!?qXH!!#8N!2'>q"
                '1&s?83\\(gF<+0nn#X`NJF*(i.F=J%5"a4<jF_*$0&-3sXgCMCk63*YZ">Ts<!\'2\\="ES:\'AJ,PNATDL\'A8,O\\;e^Ph?Udj9"@HU='
                "F=IS(!d&>t!MBGp1&s?83\\q*S:h=Z]De*Ql?W1ZbAR@o'$3O(AAJ,SRH#7D0FE2)*?W1ZbAR@o'+p1bd@PRpE!'2tM$;#;8ATDL'"
                "A8,Nt#X`NJF*(i.F=J.8$$K`nF_+ooDKMNP!ic8,E+O'(De*Ql1&s?83\\UmJ8TR^>EbTH&Bk%bb8TR^>EbTH&Bk(L>:a-$0@<6N?"
                "#mp`UD\\rMJ!<P\"V3WM2m$3O(AAI8l<F&6FgBl@Nr@p_]%&e7KS;gE4sATVs,@p_]%+p1bd@PRpE!'3:N&5ZqYBl@Nr@p`/KH=^GQ"
                ":^RY'F&6FgBl@Nr@p_]%&e\\#PEbTH&Bk(L;Df'H3DIm^-+p1P^CbbuO!'3CQ&Q<slD.Rg0Bk(LKBmO>t7SjF%8TRgUD/Ej+EbT#j"
                '7Sj^2;gE4sATVs,@p_TAD/aE2ASuT6"&3oS1&s?83]dZ]:h=Z]De*Ql?UJaKE,TW*DKH4!;gE4sATVs,@p_TAD/aE2ASuT&#?,>_'
                "AR@o'+p1,AA24-G!'2P9\"&r]O$3sLDH=^GQ:_F=*DJ+*.@<+qW@rc-tASuT6\"%6jH1&s?83\\LgC>%M_m$4p$FEbTH&Bk(LKBmO>t"
                "7SjEo:Ms_V\"]AcHB4W7j;IOHUAMO6H!'2e@\"]AcHB4VD]6#L=XCgh?UDI[]uD.RU,&e%ZHDJ*NHDJ+*.@<*Oo9m(8-!'1*@/IDna"
                '@;]^h6#L=XCgh>k"&sJ_&e@rcDc1"]B4XAHB6A$!EZtT[F_if53WM2n$4g*[Dc1"]B4XAHB6A$!EY9!PDf\\m%Dc1"]B4XAHB6A$!'
                "EZtTQDf[Z63WM2o$3ELK$5,^EF&[@%;IOHUAO13HF_kK,&e%&]?UJaKE,TW*DKI')9m(8-!'1*@-jgA\\@;]^h6#L=XCgh>s%mt8V"
                ";IOHUAO13HF_kK,+p12NF#!_V!'2Y<!^SOJ%mt8V;IOHUAO13HF_kK,&e%&\\?UJaKE,TW*DKI')9m(8-!'1*@+pnB;0FA4S0jd:d"
                "D/aE2ASuT&\"]T&ME%iI<;fuP)!'1*@,mjfTASlB?$4K3U?UJaKE,TW*DKHKp<+Toc0d6]cA7RFq3WM2t$3aC?D/_3B#&eX+E-67H"
                "\"@HU=F=J.8!d&@R!<T8%%rZT4E-680A79RgFEqh:1&s?863'U\\$31VL;?0l2$4(T^EbTH&Bk%t\\TE,*t(((RjF`_SFFC/QeFCB9:"
                "E+KjeTE,)",
            ),
        ),
        "HannWindow": (
            (
                17,
                "$49=4DJiNiDId[0+p;t$H=\\Q1Dfp/@F`]AEE+O'(De*Ql1(S;GFDuAE?Y!Se@<?d6AND:R!^SLa#X`NJF*(i.F=J%5\"a4<jF_*$0"
                '&-3sX!!!!`63*YZ">Ts<!\'2SB!^SOb#X`NJF*(i.F=J%5"a4<jF_*$0&-3sX!!!!`63*YZ">Ts<!\'2SB!^SRc#X`NJF*(i.F=J%5'
                "\"a4<jF_*$0&-3sXz63*YZ\">Ts<!'2YD\"BoAWD^#HSDf0W<@;^0:(((4g@;L't.LH^f+p7lG!!#=cTE,0N!'1*@.hVq[DIk!t6Z6j"
                "`FCB'/.M`?pG%#30AL\\#u!?qXH!.[:#!2'>q1&s?83\\(gF<-N7)#X`NJF*(i.F=J%5\"a4<jF_*$0&-3sX!!!!a63*YZ\">Ts<!'2V"
                'C"&r]O+p^PSDKBo.DKI?D$3bT]Cis;=$4m4^"PXI/5XGID!<b.X3WM2m$3YEaH=[^#:h=Z]De*Ql?W1ZbAR@o\'+p:8AF*&l<$3G<'
                "f(]g91!\\sa:!'2nC&5ZqYBl@Nr@p`/KH=^GQ:^R;#DIjFm;gE4sATVs,@p`/KH=^GQ:a-!?F^d*+3WM2u&dh3O:h=Z]De*Ql+p^P"
                "SDKBo.DKI?G$41laCis;rBl8$c!<T8%#]O?qBl@Nr@kn$F!'2e@$;#;8ATDL'A8,Nd%7tV;ATDL'A8,O\\7Sk936Xb%X.L?F`FDhu"
                "sTE,*L!'1*@/IDSUDIj.a8TR^>EbTH&Bk(L>:_F70F&R@$D.Rg0Bk(L>:a-!?F^d*+3WM3)$4p$FEbTH&Bk(LKBmO>t7SjF$8TR^"
                ">EbTH&Bk(L>:_FC;ATDL'A8,O\\6Z6g\\Df0-(F<Uf]F_if53WM3,$5$3^D/Ej+EbT#j;e^Ph?Udj!%S:_?H#7D0FE2)*?Udj)'2s0"
                "nD.Rg0Bk(L;Df'H3DIm^-+p1P^CbbuO!'31K&l<.[Bl@Nr@p_TAD/aE2ASuSs'2s0nD.Rg0Bk(L;Df'H3DIm^-&dM?LH=^GQ:a-!"
                "-A7RFq3WM2i$3O79FUA@PBmO>t7Sj^/6#L=XCgh?UDI[]uD.RU,+p15IFts%Y!'2b?\"BoAWD[I%PATDL'A8,O\\;e^Ph?Udj!\"&Ef"
                'G&d;0ADJ*N)"]AcHB4Wgu3WM2p$3a=9DJ*Mf&4(2HF_kK,8T&$YASl!rF:o![@;]^h6#L=XCgh?."&3oS1&s?83\\:[I;IOHUAO13'
                "HF_kK,$3O7OD\\<R[GAgAfDJ*NHDJ+*.@<*Oo9m(8-!'1*@/d`+gGAgAfDJ*NHDJ+*.@<)tn6Z7$FGAgAfDJ*NHDJ+*.@<*Oo6Z7$"
                '$!\'1*@0+%bH1("X]Df\\m%Dc1"]B4XAHB6A$!EY8dH11*CeD/aE2ASuT6"&3oS1&s?83[b=D;IOHUAO13HF_kK,&e@?JF&HFaB4XA'
                "HB6A$!EZtTQDf[Z63WM2l$3ELJ$4fLBF&HFaB4XAHB6A$!EY8dH0jd:dD/aE2ASuT6\"&3oS1&s?83[+n45qiWS5qu_6Df'H3DIm^"
                '-&d;6GD/_0Q"&j>O1&s?83[G+:<+Toc0FA4S11*CeD/aE2ASuT&"]T&ME%rO=6"FL]!\'1*@1^XCcASlB@&dE8sFDuAE+p:8AF*&l'
                'L$3G<fTE,+o!=s*kFDuAE?Y!Se@<?d6AMO6H!($ZX":>,?&Q/U4%giS]ATDL\'A8,Nj!MBGp=r%GUDfp/@F`^u$@<>q"H#R=3!MBG'
                "p",
            ),
        ),
        "SwiGLU": (
            (
                28,
                "$3jFQBh(is+ostR!CA7:=Y^.hCiF&r3\\:[>5nXK&GA2,37q$LN+pCnhBldr;&deeNCiF&rTE,(n!<lnJE+iZ8!'1*@)@?dLGA2,3"
                '7q$LN$3<I+!EgTK9m(8-!\'1*H!(mA$!"^,J!*Tm?"^u4dBOMVU!.[;,!<E',
            ),
        ),
    },
}
"""Domain -> operator -> the functions by which ONNX defines it, each with the first opset that has it.

A function is FunctionProto's bytes in Ascii85, with the schema's defaults among its attributes.
"""

DEPENDENT: dict[str, tuple[str, ...]] = {
    "": (
        "Attention",
        "Bernoulli",
        "CausalConvWithState",
        "CenterCropPad",
        "LinearAttention",
        "RotaryEmbedding",
    ),
    "ai.onnx.preview": ("FlexAttention",),
}
"""Domain -> operators that ONNX defines by functions that depend on the call: the onnx package makes them."""
