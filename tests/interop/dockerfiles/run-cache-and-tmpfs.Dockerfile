FROM base
RUN --mount=type=cache,target=/cache,id=diff-a,uid=1000,gid=1001,mode=0711 stat -c '%a %u:%g' /cache >/stat; echo kept >/cache/f
RUN --mount=type=cache,target=/other/place,id=diff-a,uid=1000,gid=1001,mode=0711 cat /other/place/f >/kept
RUN --mount=type=cache,target=/seeded,id=diff-b,from=rich,source=/d cat /seeded/e/two >/seed; stat -c '%a' /seeded/e >>/seed
RUN --mount=type=tmpfs,target=/t echo x >/t/f; stat -f -c %T /t >/t-type
