FROM base
COPY caps/cap caps/sub /caps/
COPY --chown=app caps/cap /owned
COPY --from=base /bin/busybox /b
