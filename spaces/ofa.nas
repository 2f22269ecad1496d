# A once-for-all, MobileNetV3-like space (Cai, Gan, Wang, Zhang, Han: Once-for-All, ICLR 2020, section 4.1).
#
# Count: 2 * 25 * (9^2 + 9^3 + 9^4)^5 = 1,087,932,774,628,624,292,550; all are different networks.
# Depth 2 to 4 a stage, kernel 3, 5 or 7 and expansion 3, 4 or 6 a block, resolution 128 to 224 in steps
# of 4, one width multiplier for the whole network. A block that is absent has no kernel to choose.
# Departures: hard swish in every stage (the paper's first stages use ReLU), one width for all stages.

space ofa {
  doc "Once-for-all, MobileNetV3-like (Cai et al., ICLR 2020): depth, width, kernel, expansion, resolution."

  param classes = 1000
  size  = choose { 128..224 step 4 }
  width = choose { 1.0, 1.2 }
  input image(3, size, size)

  op mb(k, e; out, stride=1) = if stride == 1 and cin == out then sum(id, f) else f
    where f = conv(1, e*cin) >> bn >> hswish >> dwconv(k, stride=stride) >> bn >> hswish
              >> se(round8(e*cin/4)) >> conv(1, out) >> bn
  op stage(out, s) = repeat choose { 2, 3, 4 } as block {
    mb(k=choose { 3, 5, 7 }, e=choose { 3, 4, 6 }, out=round8(width*out), stride=(if block == 1 then s else 1))
  }

  network {
    stem:   conv(3, round8(16*width), stride=2) >> bn >> hswish
    stage1: stage(24, 2)
    stage2: stage(40, 2)
    stage3: stage(80, 2)
    stage4: stage(112, 1)
    stage5: stage(160, 2)
    head:   conv(1, round8(960*width)) >> bn >> hswish >> global_pool >> linear(1280) >> hswish
            >> linear(classes)
  }
}
