# The standard library: composite operations that any space may use by name, without declaring anything.
# A definition of the same name in a space takes precedence. Each is a line of primitives, so that passes
# see what is inside it. `out` defaults to the input's channels where it has a default.

space library {
  # --- convolution, normalisation, activation, in the orders that papers use --------------------
  op conv_bn(k, out, stride=1)        = conv(k, out, stride=stride) >> bn
  op conv_bn_relu(k, out, stride=1)   = conv(k, out, stride=stride) >> bn >> relu
  op conv_bn_swish(k, out, stride=1)  = conv(k, out, stride=stride) >> bn >> swish
  op conv_bn_hswish(k, out, stride=1) = conv(k, out, stride=stride) >> bn >> hswish
  op relu_conv_bn(k, out, stride=1)   = relu >> conv(k, out, stride=stride) >> bn
  op bn_relu_conv(k, out, stride=1)   = bn >> relu >> conv(k, out, stride=stride)

  # --- DARTS (Liu et al., ICLR 2019, and its code) ---------------------------------------------
  op sep_conv(k, out, stride=1) = relu >> dwconv(k, stride=stride) >> conv(1) >> bn >> relu >> dwconv(k) >> conv(1, out) >> bn
  op dil_conv(k, out, stride=1) = relu >> dwconv(k, stride=stride, dilation=2) >> conv(1, out) >> bn
  op factorized_reduce(out)     = relu >> concat(conv(1, out//2, stride=2), crop(1) >> conv(1, out - out//2, stride=2)) >> bn

  # --- residual networks (He et al., CVPR 2016): the shortcut is projected where shapes differ --
  op shortcut(out, stride=1)          = if stride == 1 and cin == out then id else conv(1, out, stride=stride) >> bn
  op basic_block(out, stride=1)       = sum(conv(3, out, stride=stride) >> bn >> relu >> conv(3, out) >> bn, shortcut(out, stride)) >> relu
  op bottleneck(out, width, stride=1) = sum(conv(1, width) >> bn >> relu >> conv(3, width, stride=stride) >> bn >> relu >> conv(1, out) >> bn, shortcut(out, stride)) >> relu

  # --- mobile networks: MobileNetV2/V3 (CVPR 2018, ICCV 2019), EfficientNet ---------------------
  op depthwise_separable(k, out, stride=1) = dwconv(k, stride=stride) >> bn >> relu >> conv(1, out) >> bn >> relu
  op mbconv(k, e, out, stride=1)           = if stride == 1 and cin == out then sum(id, body) else body
    where body = conv(1, e*cin) >> bn >> swish >> dwconv(k, stride=stride) >> bn >> swish >> conv(1, out) >> bn
  op mbconv_se(k, e, out, stride=1) = if stride == 1 and cin == out then sum(id, body) else body
    where body = conv(1, e*cin) >> bn >> swish >> dwconv(k, stride=stride) >> bn >> swish >> se(round8(e*cin/4)) >> conv(1, out) >> bn
  op fused_mbconv(k, e, out, stride=1) = if stride == 1 and cin == out then sum(id, body) else body
    where body = conv(k, e*cin, stride=stride) >> bn >> swish >> conv(1, out) >> bn

  # --- ShuffleNetV2 (Ma et al., ECCV 2018, figure 3) --------------------------------------------
  op shuffle_unit(k)      = concat(channels(0, cin//2), channels(cin//2, cin - cin//2) >> conv(1) >> bn >> relu >> dwconv(k) >> bn >> conv(1) >> bn >> relu) >> shuffle(2)
  op shuffle_down(k, out) = concat(dwconv(k, stride=2) >> bn >> conv(1, out//2) >> bn >> relu, conv(1, out//2) >> bn >> relu >> dwconv(k, stride=2) >> bn >> conv(1, out - out//2) >> bn >> relu) >> shuffle(2)

  # --- transformers, pre-norm (Dosovitskiy et al., ICLR 2021) -----------------------------------
  op mlp(hidden) = linear(hidden) >> gelu >> linear(cin)
  op transformer_block(heads, head_width, hidden) = sum(id, layer_norm >> attention(heads, head_width)) >> sum(id, layer_norm >> mlp(hidden))
}
