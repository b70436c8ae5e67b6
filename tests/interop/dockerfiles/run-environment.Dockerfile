FROM rich
ARG FIRST=1
RUN env | sort | grep -vE '^(SOURCE_DATE_EPOCH|HOSTNAME|PWD|SHLVL)=' >/tmp/env; id >/tmp/id; pwd >/tmp/pwd; umask >/tmp/umask
RUN hostname >/tmp/hostname; cat /proc/self/limits | grep -c 'open files' >/tmp/limits; wc -c >/tmp/stdin
ARG SECOND
RUN env | sort | grep -vE '^(SOURCE_DATE_EPOCH|HOSTNAME|PWD|SHLVL)=' >/tmp/env2
