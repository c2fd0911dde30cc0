# The images. `make images` builds them for this machine, as compose.yaml names them. `make push-images` builds `release`:
# both architectures, with an SBOM and the provenance of the build attached to each image, pushed to IMAGES.
# Nothing in them is built for one architecture: the locked wheels and the base image exist for each.
variable "IMAGES" { default = "llm-orchestra" }
variable "VERSION" { default = "unreleased" }
variable "REVISION" { default = "unknown" }

group "default" { targets = ["gateway", "workers", "llm_service"] }
group "release" { targets = ["release-gateway", "release-workers", "release-llm_service"] }

target "image" {
  name   = service
  matrix = { service = ["gateway", "workers", "llm_service"] }
  target = service
  tags   = ["llm-orchestra/${replace(service, "_", "-")}"]
  args   = { VERSION = VERSION, REVISION = REVISION }
}

target "release-image" {
  name      = "release-${service}"
  matrix    = { service = ["gateway", "workers", "llm_service"] }
  inherits  = [service]
  tags      = ["${IMAGES}/${replace(service, "_", "-")}:${VERSION}"]
  platforms = ["linux/amd64", "linux/arm64"]
  attest    = ["type=provenance,mode=max", "type=sbom"]
}
