from serving import locked, serve, shared

__all__ = ["locked", "serve", "shared"]
