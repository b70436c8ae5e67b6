FROM base
COPY hard /hard
COPY hard/one hard/two /two/
COPY hard/sub hard /merged/
