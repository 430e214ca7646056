"""Where servers stand and whose they are: sites, contacts, customers. A model is one file: its table, its description."""
