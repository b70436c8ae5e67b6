FROM rich
CMD ["mine"]
ENTRYPOINT ["new"]
