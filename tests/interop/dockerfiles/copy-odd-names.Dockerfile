FROM base
COPY ["with space.txt", "/space dir/"]
COPY ["with space.txt", "/to this"]
COPY ünïcode-文.txt /ünï/文
COPY long /long
COPY ["brackets[[]1].txt", "/b/"]
COPY glob/-f.txt /dash/
