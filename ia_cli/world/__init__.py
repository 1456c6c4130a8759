"""The small synthetic world: its language, its behaviors, its teacher."""
