FROM rich AS a
CMD ["mine"]
FROM a
ENTRYPOINT shell form $X
