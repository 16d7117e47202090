"""Money: what tokens, fleets and decisions cost, in dollars; all of it pure."""
