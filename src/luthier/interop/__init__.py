"""What other tools can take over: scripts, checkpoints of other toolkits."""
