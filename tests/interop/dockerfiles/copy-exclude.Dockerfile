FROM base
COPY --exclude=*.md --exclude=node_modules tree /1/
COPY --exclude=**/*.o --exclude=!src/lib/lib.o tree/ /2/
COPY --exclude=src/* tree /3
