# Builds a static image that runs as nobody, with its data in /data.
#   docker build -t killfeed .
#   docker run -p 4004:4004 -v killfeed:/data -e KILLFEED_CONTACT=you@example.com killfeed
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=devel
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.releaseVersion=${VERSION}" -o /killfeed ./cmd/killfeed \
 && mkdir /data && chown 65532:65532 /data

FROM scratch
LABEL org.opencontainers.image.title="killfeed" \
      org.opencontainers.image.description="A self-hosted killmail feed for EVE Online third-party tools" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /killfeed /killfeed
COPY --from=build /src/LICENSE /src/NOTICE /
COPY --from=build --chown=65532:65532 /data /data
USER 65532:65532
ENV KILLFEED_LISTEN=:4004 KILLFEED_DATA=/data
VOLUME /data
EXPOSE 4004
# There is no shell in the image: the program asks itself.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["/killfeed", "healthcheck"]
ENTRYPOINT ["/killfeed"]
CMD ["serve"]
