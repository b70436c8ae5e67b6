FROM rich AS r
FROM base
RUN mkdir /m /m2
RUN --mount=type=bind,target=/m,source=dir ls -lan /m | grep -v '\.\.' >/l1
RUN --mount=type=bind,target=/m,source=dir,rw ls -lan /m | grep -v '\.\.' >/l2
RUN --mount=type=bind,from=r,source=/d/one,target=/m/file cat /m/file >/l3
RUN --mount=type=bind,from=r,target=/m2,rw rm -rf /m2/d && ls /m2 >/l4
RUN --mount=type=tmpfs,target=/m,size=1m df -k /m | tail -1 | awk '{print $2}' >/l5
RUN --mount=type=cache,target=/m,id=zz,mode=0711,uid=7,gid=8 stat -c '%a %u %g' /m >/l6; touch /m/cached
RUN --mount=type=cache,target=/m2,id=zz,mode=0711,uid=7,gid=8 ls /m2 >/l7
RUN --mount=type=cache,target=/m2,id=zy,from=r,source=/d ls /m2 >/l8
RUN --mount=type=cache,target=/m2,id=zx,ro touch /m2/q 2>/dev/null || echo ro >/l9
RUN --mount=type=secret,id=no,target=/sec/ret ls / >/l10
RUN --mount=type=secret,id=s,mode=0440,uid=33,gid=50 stat -c '%a %u %g' /run/secrets/s >/l11
RUN --mount=type=secret,id=s,target=/m/sec cat /m/sec >/l12
RUN --mount=type=secret,id=s,env=TOK echo "$TOK" >/l13
RUN --mount=type=secret,id=s,env=TOK,target=/m/f echo "$TOK" >/l14; cat /m/f >>/l14
RUN --mount=type=secret,id=no,env=TOK2 echo "${TOK2-unset}" >/l15
RUN --mount=type=tmpfs,target=/a/b/c --mount=type=bind,target=/a/b/d true
WORKDIR /w
RUN --mount=target=rel,source=a.txt cat rel >/l16
RUN --mount=target=. ls | wc -l >/l17; pwd >>/l17
RUN --mount=type=secret,id=s,target=rel2 ls / /w >/l18
RUN --network=none ls /sys/class/net >/l19
RUN --mount=type=bind,target=/q,source=link-to-dir ls -a /q >/l20
RUN --mount=type=bind,target=/q,source=link-to-file cat /q >/l21
RUN --mount=type=bind,target=/q/r/s,source=../../dir/./sub ls -a /q/r/s >/l22
ENV D=dir N=cache R=true
RUN --mount=type=$N,target=/c,uid=33 stat -c %u /c >/l23
RUN --mount=target=/m,source=${D}/sub,ro=$R ls /m >/l24
RUN --mount=type=bind,from=base,source=etc,target=/m ls /m >/l25
RUN --device=vendor.example/none=x echo went on >/l26
USER app
RUN --mount=type=cache,target=/home/app/.c,uid=1000 touch /home/app/.c/x && echo ok >/tmp/l27
