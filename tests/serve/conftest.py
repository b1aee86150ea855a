from importlib.util import find_spec

if all(map(find_spec, ("fastapi", "prometheus_client", "uvicorn"))):
    from serving import locked, serve, shared

    __all__ = ["locked", "serve", "shared"]
else:  # without the extra there is nothing to test
    collect_ignore_glob = [
        "test_app.py",
        "test_engine.py",
        "test_docs.py",
        "test_page.py",
        "test_selecting.py",
    ]
