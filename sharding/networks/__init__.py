"""Networks of others that find faces, their meshes and irises: where they come from, and what runs them."""
