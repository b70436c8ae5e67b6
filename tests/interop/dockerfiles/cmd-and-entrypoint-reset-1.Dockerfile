FROM rich
ENTRYPOINT ["new"]
