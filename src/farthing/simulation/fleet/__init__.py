"""A fleet of serving engines, simulated iteration by iteration: queues, KV blocks, routing, scaling, all compiled."""
