FROM rich AS other
FROM base
RUN --mount=target=/ctx ls -a /ctx/glob >/ls; cat /ctx/a.txt >/a; stat -c '%a %u:%g %n' /ctx/owned /ctx/modes/* /ctx/dir/sub >/stat; touch /ctx/no 2>/dev/null || echo ro >/ro
RUN --mount=type=bind,from=other,source=/d,target=/m/deep/er cat /m/deep/er/e/two >/two; stat -c '%a %u:%g' /m/deep/er/g >/two-stat
RUN --mount=from=rich,source=/d/one,target=/one cat /one >/from-image
RUN --mount=target=/rw,rw echo written >/rw/new && cat /rw/new >/new
WORKDIR /w
RUN --mount=target=rel,source=dir cat rel/x >/rel
RUN --mount=target=/a.txt,source=a.txt,ro cat /a.txt >/one-file
