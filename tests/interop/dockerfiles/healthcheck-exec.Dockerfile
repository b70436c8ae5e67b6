FROM base
HEALTHCHECK --interval=1m30s --timeout=500ms --start-period=1h --retries=5 CMD ["a", "b"]
