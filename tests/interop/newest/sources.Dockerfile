FROM base AS b
RUN chown 5:6 /etc && chmod 700 /etc && mkdir -p /k/l && touch -d @800000000 /k/l
FROM base
COPY --from=b /etc/passwd /e/
COPY --from=b /k /k
COPY --from=b /etc /etc2/
COPY --from=0 /k/l/ /l
COPY --from=B /k /kk/
COPY dir/ /tr/
COPY dir/. /trd/
COPY ./dir/sub/../x /xx
COPY back\\slash /esc/
COPY brackets[[]1].txt /esc/
COPY ["with space.txt", "/sp/"]
COPY *.txt /st/
COPY empty a.txt /
COPY void /void1
COPY glob/f[0-9].txt /1/
COPY glob/f[!1].txt /2/
COPY glob/f[^1].txt /3/
COPY glob/*/f1.txt /5/
COPY gl*b/f1.txt /6/
COPY */x /7/
COPY glob/\*.txt glob/f1.txt /9/
COPY glob/d? /12/
COPY [a-b].* /14/
COPY .d* /15/
COPY link-to* /16/
COPY hard/* /17/
COPY modes/s* /18/
ADD tar/p*.tar tar/packed.* /19/
ADD --unpack=false tar/plain.tar /20/
ADD --unpack tar/plain.tar /21/
ADD tar/plain.tar /22
ADD dir tar/plain.tar /23/
WORKDIR rel
COPY a.txt .
COPY a.txt x/
COPY a.txt ../up
