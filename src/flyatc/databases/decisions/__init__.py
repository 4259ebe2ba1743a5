"""Pure decisions about databases: no loop, no file, no clock."""
