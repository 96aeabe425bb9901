package packet

// SetPayloadFormat sets the payload format indicator: 1 says that the payload is UTF-8.
func (p *Properties) SetPayloadFormat(v byte) {
	p.PayloadFormat = v
	p.add(PropPayloadFormat)
}

// SetMessageExpiry sets the message expiry interval in seconds.
func (p *Properties) SetMessageExpiry(v uint32) {
	p.MessageExpiry = v
	p.add(PropMessageExpiry)
}

// SetContentType sets the content type.
func (p *Properties) SetContentType(v []byte) {
	p.ContentType = v
	p.add(PropContentType)
}

// SetResponseTopic sets the response topic.
func (p *Properties) SetResponseTopic(v []byte) {
	p.ResponseTopic = v
	p.add(PropResponseTopic)
}

// SetCorrelationData sets the correlation data.
func (p *Properties) SetCorrelationData(v []byte) {
	p.CorrelationData = v
	p.add(PropCorrelationData)
}

// SetSessionExpiry sets the session expiry interval in seconds; 0xFFFFFFFF is never.
func (p *Properties) SetSessionExpiry(v uint32) {
	p.SessionExpiry = v
	p.add(PropSessionExpiry)
}

// SetAssignedClientID sets the client identifier that the server chose.
func (p *Properties) SetAssignedClientID(v []byte) {
	p.AssignedClientID = v
	p.add(PropAssignedClientID)
}

// SetServerKeepAlive sets the keep alive in seconds that the server asks for.
func (p *Properties) SetServerKeepAlive(v uint16) {
	p.ServerKeepAlive = v
	p.add(PropServerKeepAlive)
}

// SetAuthMethod sets the authentication method.
func (p *Properties) SetAuthMethod(v []byte) {
	p.AuthMethod = v
	p.add(PropAuthMethod)
}

// SetAuthData sets the authentication data.
func (p *Properties) SetAuthData(v []byte) {
	p.AuthData = v
	p.add(PropAuthData)
}

// SetRequestProblemInfo sets whether reason strings and user properties may come with every packet: 0 or 1.
func (p *Properties) SetRequestProblemInfo(v byte) {
	p.RequestProblemInfo = v
	p.add(PropRequestProblemInfo)
}

// SetWillDelay sets the will delay interval in seconds.
func (p *Properties) SetWillDelay(v uint32) {
	p.WillDelay = v
	p.add(PropWillDelay)
}

// SetRequestResponseInfo sets whether the client wants response information: 0 or 1.
func (p *Properties) SetRequestResponseInfo(v byte) {
	p.RequestResponseInfo = v
	p.add(PropRequestResponseInfo)
}

// SetResponseInfo sets the response information.
func (p *Properties) SetResponseInfo(v []byte) {
	p.ResponseInfo = v
	p.add(PropResponseInfo)
}

// SetServerReference sets the other server to use.
func (p *Properties) SetServerReference(v []byte) {
	p.ServerReference = v
	p.add(PropServerReference)
}

// SetReasonString sets the reason in words.
func (p *Properties) SetReasonString(v []byte) {
	p.ReasonString = v
	p.add(PropReasonString)
}

// SetReceiveMaximum sets the receive maximum in packets, not 0.
func (p *Properties) SetReceiveMaximum(v uint16) {
	p.ReceiveMaximum = v
	p.add(PropReceiveMaximum)
}

// SetTopicAliasMaximum sets the highest topic alias that the sender accepts.
func (p *Properties) SetTopicAliasMaximum(v uint16) {
	p.TopicAliasMaximum = v
	p.add(PropTopicAliasMaximum)
}

// SetTopicAlias sets the topic alias, not 0.
func (p *Properties) SetTopicAlias(v uint16) {
	p.TopicAlias = v
	p.add(PropTopicAlias)
}

// SetMaximumQoS sets the highest QoS that the server takes: 0 or 1.
func (p *Properties) SetMaximumQoS(v byte) {
	p.MaximumQoS = v
	p.add(PropMaximumQoS)
}

// SetRetainAvailable sets whether the server keeps retained messages: 0 or 1.
func (p *Properties) SetRetainAvailable(v byte) {
	p.RetainAvailable = v
	p.add(PropRetainAvailable)
}

// SetMaximumPacketSize sets the largest packet that the sender takes, in bytes, not 0.
func (p *Properties) SetMaximumPacketSize(v uint32) {
	p.MaximumPacketSize = v
	p.add(PropMaximumPacketSize)
}

// SetWildcardAvailable sets whether the server takes filters with wildcards: 0 or 1.
func (p *Properties) SetWildcardAvailable(v byte) {
	p.WildcardAvailable = v
	p.add(PropWildcardAvailable)
}

// SetSubscriptionIDAllowed sets whether the server takes subscription identifiers: 0 or 1.
func (p *Properties) SetSubscriptionIDAllowed(v byte) {
	p.SubscriptionIDAllowed = v
	p.add(PropSubscriptionIDAllowed)
}

// SetSharedAvailable sets whether the server takes shared subscriptions: 0 or 1.
func (p *Properties) SetSharedAvailable(v byte) {
	p.SharedAvailable = v
	p.add(PropSharedAvailable)
}

// SetUser sets all user properties. The bytes are kept, not copied.
func (p *Properties) SetUser(u UserProperties) {
	p.Remove(PropUser)
	p.User = u
	if len(u) > 0 {
		p.add(PropUser)
	}
}

// AddUser adds a user property after those that are there.
func (p *Properties) AddUser(name, value string) {
	p.User = p.User.Append([]byte(name), []byte(value))
	p.add(PropUser)
}

// AddSubscriptionID adds a subscription identifier, from 1 to 268,435,455.
func (p *Properties) AddSubscriptionID(id uint32) {
	p.SubscriptionIDs = append(p.SubscriptionIDs, id)
	p.add(PropSubscriptionID)
}
