FROM base
RUN mkdir /k && cd /k && mknod c c 1 3 && mknod b b 7 0 && mkfifo p && ln -s /nowhere l && echo f >f && ln f h && : >e && \
    chmod 4711 f && mkdir -m 1777 s && mkdir -m 2770 g && chown 12:34 g s && touch 'sp ace' ./-dash 'ünï' '.dot' 'back\\slash' && \
    chown -h 5:6 l && chown 7:8 p && touch "$(printf 'new\nline')" && mkdir -p a/b/c/d/e/f/g/h
RUN mkdir -p /deep && cd /deep && for i in 1 2 3 4 5 6 7 8 9; do mkdir dddddddddddddddddddddddddddddddddddd && cd d*; done && echo deep >f
RUN truncate -s 3M /sparse && printf end >>/sparse
RUN touch /bin/%$$..$$ /etc/..data && mkdir '/...' && touch '/.../f'
