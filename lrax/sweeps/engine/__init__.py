"""How a sweep is run: its plan, its compiled programs, and the chunks of lanes that they train."""
