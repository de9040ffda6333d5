"""The drawn corpus: acting, faces, voices."""
