# A vision transformer space like AutoFormer-tiny (Chen, Peng, Fu, Ling: AutoFormer, ICCV 2021, table 2).
#
# Count: 3 * (4^12 + 4^13 + 4^14) = 1,056,964,608; all of them are different networks.
# One embedding width for the whole network (tied), heads and MLP ratio of their own for each block, and
# the number of blocks. Departures: no relative position encoding; query, key and value have 64 numbers a
# head, whatever the number of heads, as in AutoFormer's code.

space autoformer {
  doc "AutoFormer-tiny-like vision transformer (Chen et al., ICCV 2021): width, heads, MLP ratio, depth."

  param classes    = 1000
  param resolution = 224
  param patch      = 16
  embed = choose { 192..240 step 24 }
  input image(3, resolution, resolution)

  op feed_forward(ratio) = linear(int(ratio*cin)) >> gelu >> linear(cin)
  op block = sum(id, layer_norm >> attention(heads=choose { 3, 4 }, head_width=64))
             >> sum(id, layer_norm >> feed_forward(ratio=choose { 3.5, 4.0 }))

  network {
    patches: conv(patch, embed, stride=patch, pad=0, bias=true) >> tokens >> class_token >> position
    blocks:  repeat choose { 12..14 } { block }
    head:    layer_norm >> take_token(1) >> linear(classes)
  }
}
