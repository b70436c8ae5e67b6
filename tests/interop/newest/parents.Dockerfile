FROM rich AS r
FROM base
COPY --parents dir/sub/y other/x /p/
COPY --parents dir/**/z /q/
COPY --parents tree/./src/**/*.c /r/
COPY --parents **/*.md /s/
COPY --parents ./dir/./sub /t/
COPY --parents dir/ /u/
COPY --parents glob/d*/f1.txt /v/
COPY --parents link-to-file dir/link /w/
COPY --parents --chown=app --chmod=u=rwX,go= tree/src/lib /x/
COPY --parents --exclude=**/*.o --exclude=docs tree /y/
COPY --parents ./././a.txt /z/
COPY --parents glob/*.txt glob/nothing* /glob/
COPY --parents /a.txt ../b.txt /aa/
COPY --parents tree/**/README.md tree/keep /bb/
COPY --parents hard /cc/
COPY --parents modes/sticky/f modes/setgid-dir/f owned/f /dd/
COPY --parents --from=r /d/e/./two /d/g /ee/
COPY --parents --from=r /d/**/four /ff/
COPY --parents --from=r /links/* /gg/
