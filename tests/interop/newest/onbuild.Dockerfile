FROM base AS one
ONBUILD COPY <<E /ob/
$V
E
ONBUILD RUN <<E
echo script > /ob/s
E
ONBUILD ARG X=1
ONBUILD RUN --mount=type=bind,target=/c cat /c/a.txt > /ob/m
ONBUILD WORKDIR /wd
ONBUILD USER app
ONBUILD CMD ["a"]
ONBUILD COPY --from=later a.txt /ob/l
FROM scratch AS later
COPY a.txt /a.txt
FROM one AS two
ENV V=late
RUN id -u >/tmp/id
FROM two
RUN echo none
