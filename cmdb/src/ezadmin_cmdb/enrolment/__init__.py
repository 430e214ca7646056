"""How hosts become known by themselves: tokens, machines that are known again, copied disks, new keys."""
