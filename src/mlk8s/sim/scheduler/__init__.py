"""The scheduler: which node a pod goes to, why not to another, and who has to give way."""
