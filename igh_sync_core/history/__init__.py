"""Records → rows → versions, choices and the checkpoint that covers them."""
