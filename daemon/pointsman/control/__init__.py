"""The control loop: gather → decide → save → publish, under a lease. It knows no prober and no proxy."""
