FROM rich AS r
FROM rich
USER root
COPY --link dir /links
COPY --link other /new/deep/
COPY --link --chown=5:6 --chmod=700 a.txt /to-e/x
COPY --link b.txt /d/one
ADD --link tar/plain.tar /un/
COPY --link --from=base /etc/passwd /pw
COPY --link --from=r /d/e/two /y/z
COPY --link --chmod=u=rwX,go= dir /m/
COPY --link glob/f*.txt /g/
COPY --link --parents tree/src/./lib /p/
COPY --link --exclude=*.o tree/src /e/
WORKDIR /d
COPY --link a.txt rel/
RUN rm -f /d/one && ls -a / /d > /list
COPY --link <<E /inline
x
E
