from serving import serve

__all__ = ["serve"]
