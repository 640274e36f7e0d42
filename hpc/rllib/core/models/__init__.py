"""Networks of default modules: settings of parts, the catalog that chooses them, their torch classes."""
