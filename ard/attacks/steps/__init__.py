"""What gradient attacks are made of: the ball, one step up in it, many steps, the 8-bit grid."""
