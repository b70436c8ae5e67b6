FROM base
RUN --mount=type=secret,id=one cat /run/secrets/one | tr a-z A-Z >/upper; stat -c '%a %u:%g' /run/secrets/one >/stat
RUN --mount=type=secret,id=one,target=/etc/deep/one,mode=0444,uid=1000,gid=33 stat -c '%a %u:%g' /etc/deep/one >/stat2
RUN --mount=type=secret,id=none test ! -e /run/secrets/none
RUN ls -a /run >/run-list 2>&1; true
