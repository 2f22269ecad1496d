# Cream's supernet (Peng, Du, Yu, Li, Liao, Fu: Cream of the Crop, NeurIPS 2020), its depths fixed.
#
# Count: 6^20 = 3,656,158,440,062,976 at depths 4,4,4,4,4; all of them are different networks.
# As built by the authors' code: a squeeze of a quarter of the expanded width and its gate a hard sigmoid, a
# shortcut around the depthwise block, a last convolution with bias and no norm behind the pooling.
# Departures: one released block string repeats twice, so the released supernet has a layer that is never
# chosen; it is not there.
# Depth and resolution are parameters, because Cream settles them before its search (`nasdsl fit`). The six
# published networks are `--arch cream_14`, `cream_43`, `cream_114`, `cream_287`, `cream_481` and `cream_604`.

space cream {
  doc "Cream's supernet (Peng et al., NeurIPS 2020)."

  param resolution = 224
  param depths     = [4, 4, 4, 4, 4]
  param classes    = 1000
  input image(3, resolution, resolution)

  op mb(k, e; out, stride=1) = if stride == 1 and cin == out then sum(id, f) else f
    where f = conv(1, e*cin) >> bn >> swish >> dwconv(k, stride=stride) >> bn >> swish
              >> se(round8(e*cin/4)) >> conv(1, out) >> bn
  op ds = sum(id, f)
    where f = dwconv(3) >> bn >> swish >> se(8) >> conv(1, cin) >> bn

  set blocks(; out, stride=1) = {
    k3_e4: mb(3, 4), k3_e6: mb(3, 6), k5_e4: mb(5, 4), k5_e6: mb(5, 6), k7_e4: mb(7, 4), k7_e6: mb(7, 6)
  }
  op stage(depth, out, s) = repeat depth as block {
    choose blocks with stride=(if block == 1 then s else 1)
  }

  network {
    stem:   conv(3, 16, stride=2) >> bn >> swish >> ds
    stage1: stage(depths[1], 24, 2)
    stage2: stage(depths[2], 40, 2)
    stage3: stage(depths[3], 80, 2)
    stage4: stage(depths[4], 96, 1)
    stage5: stage(depths[5], 192, 2)
    head:   conv(1, 320) >> bn >> swish >> global_pool >> as_image >> conv(1, 1280, bias=true) >> swish
            >> flatten >> linear(classes)
  }
}
