"""What can be asked for, what it costs, and where it runs: public ids, targets, capabilities, prices."""
