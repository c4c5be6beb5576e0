"""Token banks from end to end: imported, learnt on annotated samples, scored, merged, exported."""
