# One supernet for many sizes: depth, width, kernel and resolution are decisions, and a limit keeps
# what is searched small. Methods of single paths cut one set of weights to the sizes of a path.

space elastic {
  doc "Depth, width, kernel and resolution as decisions, under a limit."
  param classes = 10
  size  = choose { 12, 16 }
  width = choose { 1.0, 1.5 }
  input image(3, size, size)

  op mb(k, e; out, stride=1) = if stride == 1 and cin == out then sum(id, f) else f
    where f = conv(1, e*cin) >> bn >> hswish >> dwconv(k, stride=stride) >> bn >> hswish >> conv(1, out) >> bn
  op stage(out) = repeat choose { 1, 2, 3 } as block {
    mb(k=choose { 3, 5 }, e=choose { 2, 4 }, out=round8(width*out), stride=(if block == 1 then 2 else 1))
  }

  limit macs <= 250k

  network {
    stem:   conv(3, round8(8*width)) >> bn >> hswish
    stage1: stage(16)
    stage2: stage(24)
    head:   conv(1, 64) >> bn >> hswish >> global_pool >> linear(classes)
  }
}
