package wsframe

// Held returns how many bytes of an unfinished message p holds.
func (p *Parser) Held() int { return len(p.fragments) }
