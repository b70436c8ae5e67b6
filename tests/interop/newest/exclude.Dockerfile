FROM rich AS r
FROM base
COPY --exclude=*.txt --exclude=!f1.txt glob /a/
COPY --exclude=**/*.o --exclude=**/lib tree /b/
COPY --exclude=tree/src tree /c/
COPY --exclude=src tree /d/
COPY --exclude=a.txt a.txt b.txt /e/
COPY --exclude=*.txt *.txt /f/
COPY --exclude=sub/deep dir /g/
COPY --exclude=* dir /h/
COPY --exclude=**/f1.txt glob/d* /j/
COPY --exclude=.* --exclude=hard dir glob /k/
ADD --exclude=*.md tree/docs /l/
ADD --exclude=dir tar/plain.tar /m/
COPY --from=r --exclude=e /d /x/
COPY --from=r --exclude=**/three --exclude=one /d/ /y/
