FROM base
COPY modes /modes
COPY owned /owned
COPY modes/setuid /setuid
COPY modes/all /all
COPY dir/sub/deep /deep
COPY empty /empty
