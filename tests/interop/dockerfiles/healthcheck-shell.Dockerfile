FROM base
HEALTHCHECK --timeout=1.5s CMD echo $A || exit 1
