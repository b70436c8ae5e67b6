"""The registry server: the OCI Distribution API over the content store, on aiohttp's low-level server.

Gives:    serve.serve() and serve.RegistryServer, state.Settings, access.AccessLog.
Takes:    a ContentStore and listening sockets. Any number of servers may share one root.
Promises: bounded memory whatever is sent or asked; every name, tag and digest is checked before it reaches the store;
          stored bytes leave as they came.
Not here: how content is kept (registry/storage), how a client works (registry/client).

One request's way: serve.py (connections) → dispatch.py (errors become statuses) → routing.py (what the path means) →
a handler in blobs.py, uploads.py, manifests.py or listings.py → transfer.py (bytes in and out).
"""
