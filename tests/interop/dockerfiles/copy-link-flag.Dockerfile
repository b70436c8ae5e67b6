FROM base
COPY --link a.txt /new/a
COPY --link --chown=1:2 dir /dir/
