package killfeed

// Digest sums up how rich a version of a killmail is, so that most newcomers can be told from what is stored without
// reading it. The digest of a stored killmail has the bits of all its versions and the labels of the newest that has any. It
// is stored with each killmail id: its layout never changes.
//
//	bit 63      a hash is known
//	bit 62      a zkb object with anything beside the hash
//	bit 61      at least one label
//	bits 31-0   CRC-32C of the distinct labels, sorted, joined by NUL; 0 without labels
type Digest uint64

const (
	digestHash   Digest = 1 << 63
	digestZKB    Digest = 1 << 62
	digestLabels Digest = 1 << 61
	digestBits          = digestHash | digestZKB | digestLabels
)

// Comparison is what two digests tell of a newcomer and the stored version.
type Comparison int

const (
	// DigestUnclear: the labels differ; only the stored version itself can tell.
	DigestUnclear Comparison = iota
	// DigestPoorer: the newcomer brings nothing that the stored version lacks.
	DigestPoorer
	// DigestRicher: the newcomer brings a hash, zkb or labels where the stored version has none at all.
	DigestRicher
)

// Against compares a newcomer's digest with that of the stored version.
func (d Digest) Against(stored Digest) Comparison {
	switch {
	case d&digestBits&^stored != 0:
		return DigestRicher
	case d&digestLabels == 0, d&^digestBits == stored&^digestBits:
		return DigestPoorer
	}
	return DigestUnclear
}

// Over is the digest of a stored killmail once the version with digest d has become its newest.
func (d Digest) Over(stored Digest) Digest {
	labels := d &^ digestBits
	if d&digestLabels == 0 {
		labels = stored &^ digestBits
	}
	return (d|stored)&digestBits | labels
}
